"""Prompts from a Hugging Face dataset, by folder (saved with `save_to_disk`, or a clone from the hub) or hub id."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field

from engine.base.errors import ConfigError
from engine.config.kinds import SourceKind
from engine.config.paths import RunFolder
from engine.config.sources import RowsConfig
from engine.sources import files
from engine.sources.hints import COMPANIONS
from engine.sources.rows import ARRAY, FORMS
from engine.sources.tables import PlacedRow, columns, notes_of, prompts_of
from storage.records import Prompt

_FORMS = {ending: form for form in (*FORMS.values(), ARRAY) for ending in form.endings}


class HuggingFaceSource(RowsConfig):
    """A Hugging Face dataset, by folder (saved with `save_to_disk`, or a clone from the hub) or hub id."""

    path: str = Field(title="dataset")
    """Folder or hub id of a dataset."""
    name: str | None = Field(None, title="configuration")
    """The dataset's configuration; None: its only one."""
    subset: str = "train"
    """The dataset's own split to read."""


def _prompts(source: HuggingFaceSource) -> Iterator[tuple[str, Prompt]]:
    """Yields (`dataset#row`, prompt) of a dataset folder or hub id.

    Raises:
        ConfigError: the dataset, its configuration or its split cannot be loaded.
    """
    return prompts_of(_rows(source), source, "choose another `subset`")


def _rows(source: HuggingFaceSource, also: Collection[str] = ()) -> Iterator[PlacedRow]:
    name, path = Path(source.path).name, source.path
    rows = _loaded(source)
    names = list(rows.column_names or ())
    read = [column for column in names if column in columns(source.fields) | set(also)]
    try:
        # What is not read is not decoded either: images, sounds.
        for number, row in enumerate(rows.select_columns(read) if read else rows):
            yield f"{name}#{number}", f"{path}#{number}", dict.fromkeys(names) | row
    except Exception as error:  # of as many kinds as there are files
        raise _unusable(source, error) from None


def _loaded(source: HuggingFaceSource) -> Any:
    import datasets

    folder = Path(source.path)
    if folder.is_file():
        kind = next((kind for kind, form in FORMS.items() if files.ending(folder) in form.endings), None)
        raise ConfigError(
            f"prompts: {folder}: is a file, not a dataset",
            f"set `source: {kind}`" if kind else "name a folder",
        )
    try:
        if (folder / "state.json").is_file():
            return datasets.load_from_disk(folder)
        if (folder / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(folder)
            if source.subset not in splits:
                raise _no_split(source, splits)
            return splits[source.subset]
        return datasets.load_dataset(source.path, source.name, split=source.subset, streaming=True)
    except ConfigError:
        raise
    except Exception as error:  # datasets raises many kinds; each one means that it cannot be used
        raise _unusable(source, error) from None


def _no_split(source: HuggingFaceSource, splits: Any) -> ConfigError:
    return ConfigError(
        f"prompts: {source.path}: has no split `{source.subset}`, but {', '.join(splits)}",
        f"set `subset: {next(iter(splits), '…')}`",
    )


def _unusable(source: HuggingFaceSource, error: Exception) -> ConfigError:
    """What is said of a dataset that cannot be read, by what it has where that can be told."""
    import datasets

    with suppress(Exception):
        names = datasets.get_dataset_config_names(source.path)
        if source.name not in (names if source.name or len(names) > 1 else [None]):
            asked = (
                f"has no configuration `{source.name}`, but" if source.name else "has several configurations:"
            )
            return ConfigError(
                f"prompts: {source.path}: {asked} {', '.join(names)}",
                f"set `name: {names[0]}` or another of them",
            )
        splits = datasets.get_dataset_split_names(source.path, source.name)
        if source.subset not in splits:
            return _no_split(source, splits)
    with suppress(OSError):
        for file in Path(source.path).rglob("*.*"):
            if file.is_file() and files.is_pointer(file):
                return ConfigError(f"prompts: {file}: is a pointer of Git LFS, not the data", "git lfs pull")
    return ConfigError(
        f"prompts: {source.path}: cannot be loaded: {' '.join(str(error).split())[:300] or type(error).__name__}",
        "check the id or folder; without a network use a folder saved with save_to_disk, or a clone",
    )


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {"path": folder.reference(settings["path"])}


def _count(source: HuggingFaceSource) -> int | None:
    """Rows of a dataset in a folder; None of a hub id, or where the folder is too large to be read for that."""
    folder = Path(source.path)
    if not folder.exists():
        return None
    if folder.is_file() or (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return len(_loaded(source))
    import datasets

    try:
        found = datasets.load_dataset_builder(source.path, source.name).config.data_files or {}
        counts = [_FORMS[files.ending(Path(file))].count(Path(file), ()) for file in found[source.subset]]
    except ConfigError:
        raise
    except KeyError:  # a form of file that only `datasets` knows, or a split that is made of another
        return sum(1 for _ in _rows(source))
    except Exception as error:
        raise _unusable(source, error) from None
    return None if None in counts else sum(count or 0 for count in counts)


def _notes(source: HuggingFaceSource) -> list[str]:
    return notes_of(_rows(source, COMPANIONS), source)


KIND = SourceKind(settings=HuggingFaceSource, prompts=_prompts, located=_located, count=_count, notes=_notes)
