"""The run file's JSON Schema."""

import json
from collections.abc import Mapping
from typing import Any

from engine.base.plugins import SCORERS, STRATEGIES, TEACHERS
from engine.config.kinds import scorer_kind, teacher_kind, verifiers
from engine.config.run_file import Run
from engine.config.section import Section

REF = "#/$defs/{model}"


def json_schema() -> str:
    """The run file's JSON Schema, for editors that validate and complete YAML; with the keys of all kinds."""
    schema = Run.model_json_schema(ref_template=REF)
    places, parts = schema["properties"], schema["$defs"]
    name = {"type": "string", "description": "Name of a registered model: `persyn models add`."}
    places["student"] = {"anyOf": [places["student"], name]}
    places["teachers"]["items"] = {"anyOf": [places["teachers"]["items"], name]}
    places["strategies"]["items"]["enum"] = list(STRATEGIES.usable())
    _add(parts, "TeacherConfig", "backend", {kind: teacher_kind(kind).settings for kind in TEACHERS.usable()})
    scorers = {name: scorer_kind(name) for name in SCORERS.usable()}
    for part in ("ScorerConfig", "QualityConfig"):
        own = {name: kind.settings for name, kind in scorers.items() if not kind.of_student}
        _add(parts, part, "scorer", own)
    for part in parts.values():
        if "verifier" in part["properties"]:
            part["properties"]["verifier"]["anyOf"][0]["enum"] = list(verifiers())
    return json.dumps(schema, indent=2)


def _add(parts: dict[str, Any], part: str, key: str, kinds: Mapping[str, type[Section]]) -> None:
    """Gives a part of the schema the keys that only some kinds have; `key` holds the kind's name."""
    properties = parts[part]["properties"]
    properties[key]["enum"] = list(kinds)
    own = set(properties)
    for settings in kinds.values():
        schema = settings.model_json_schema(ref_template=REF)
        parts |= {name: found for name, found in schema.pop("$defs", {}).items() if name not in parts}
        for name, found in schema["properties"].items():
            if name in own:
                continue
            others = properties[name].get("anyOf", [properties[name]]) if name in properties else []
            properties[name] = found if found in others or not others else {"anyOf": [*others, found]}
    parts[part]["additionalProperties"] = False
