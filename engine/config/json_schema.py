"""The run file's JSON Schema."""

import json

from engine.config.run_file import Run


def json_schema() -> str:
    """The run file's JSON Schema, for editors that validate and complete YAML."""
    schema = Run.model_json_schema()
    places = schema["properties"]
    name = {"type": "string", "description": "Name of a registered model: `persyn models add`."}
    places["student"] = {"anyOf": [places["student"], name]}
    places["teachers"]["items"] = {"anyOf": [places["teachers"]["items"], name]}
    return json.dumps(schema, indent=2)
