"""The prompts of parallel responses that were made elsewhere."""

from collections.abc import Mapping
from typing import Any

from engine.config.kinds import SourceKind
from engine.config.sources import ImportedSource
from engine.sources import imported
from engine.sources.files import COUNTED_BYTES, is_missing, text_bytes
from engine.sources.tables import absolute


def _identity(source: ImportedSource) -> Mapping[str, Any]:
    # The same responses in another folder are the same responses.
    return {**source.model_dump(mode="json", exclude={"path"}), "files": imported.hashes(source.path)}


def _count(source: ImportedSource) -> int | None:
    """Different prompts, which are fewer than rows: each of them is there once per model."""
    if is_missing(source.path):
        return None
    if sum(text_bytes(file) for file in imported.files(source.path)) > COUNTED_BYTES:
        return None
    return sum(1 for _ in imported.prompts(source))


KIND = SourceKind(
    settings=ImportedSource,
    prompts=imported.prompts,
    located=absolute,
    identity=_identity,
    count=_count,
    notes=imported.notes,
)
