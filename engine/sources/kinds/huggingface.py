"""Prompts from a Hugging Face dataset, by folder (saved with `save_to_disk`) or hub id."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from engine.base.errors import ConfigError
from engine.config.kinds import SourceKind
from engine.config.paths import RunFolder
from engine.config.sources import RowsConfig
from engine.sources.tables import prompts_of
from storage.records import Prompt


class HuggingFaceSource(RowsConfig):
    """A Hugging Face dataset, by folder (saved with `save_to_disk`) or hub id."""

    path: str = Field(title="dataset")
    """Folder or hub id of a dataset."""
    name: str | None = Field(None, title="configuration")
    """The dataset's configuration; None: its only one."""
    subset: str = "train"
    """The dataset's own split to read."""


def _prompts(source: HuggingFaceSource) -> Iterator[tuple[str, Prompt]]:
    """Yields (`dataset#row`, prompt) of a dataset folder or hub id.

    Raises:
        ConfigError: the dataset or its split cannot be loaded.
    """
    import datasets

    path, subset = source.path, source.subset
    try:
        if Path(path).is_dir() and (Path(path) / "state.json").is_file():
            rows: Any = datasets.load_from_disk(path)
        elif Path(path).is_dir() and (Path(path) / "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(path)[subset]
        else:
            rows = datasets.load_dataset(path, source.name, split=subset, streaming=True)
    except KeyError:
        raise ConfigError(f"prompts: {path}: has no split `{subset}`", "set `subset` to one it has") from None
    except Exception as error:  # datasets raises many kinds; each one means that it cannot be used
        raise ConfigError(
            f"prompts: {path}: cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "check the id or folder; without a network use a folder saved with save_to_disk",
        ) from None
    name = Path(path).name
    placed = ((f"{name}#{number}", f"{path}#{number}", row) for number, row in enumerate(rows))
    return prompts_of(placed, source, "choose another `subset`")


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {"path": folder.reference(settings["path"])}


def _count(source: HuggingFaceSource) -> int | None:
    """Rows of a dataset folder written by `save_to_disk`; None for anything else, a hub id included."""
    folder, subset = Path(source.path), source.subset
    if not folder.is_dir():
        return None
    inner = folder if (folder / "state.json").is_file() else folder / subset
    if not (inner / "state.json").is_file():
        return None
    import pyarrow

    rows = 0
    for part in sorted(inner.glob("*.arrow")):
        with pyarrow.memory_map(str(part)) as mapped:
            for batch in pyarrow.ipc.open_stream(mapped):
                rows += batch.num_rows
    return rows


KIND = SourceKind(settings=HuggingFaceSource, prompts=_prompts, located=_located, count=_count)
