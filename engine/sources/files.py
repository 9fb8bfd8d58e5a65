"""The files of a source: which ones `path` names, and their bytes, decompressed, whatever their names say.

What is no data at all (a pointer of Git LFS, an archive, a web page, text in UTF-16) is told apart by its first bytes.
"""

import bz2
import codecs
import gzip
import hashlib
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, cast

from engine.base.errors import ConfigError

COUNTED_BYTES: Final = 2**30
"""Larger text files are not read for a count, about a second of reading."""
_TEXT_RATIO: Final = 4
"""About so many times as large is text before it is compressed."""
_HEAD_BYTES: Final = 512
_ALIASES: Final = (".ndjson", ".tsv")
"""Other endings of JSONL and CSV, which messages leave out."""
_PATTERN: Final = frozenset("*?[")


def _zstd(path: Path) -> Any:
    import pyarrow

    return BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


_OPENERS: Final[Mapping[str, Callable[[Path], Any]]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
}
PACKED: Final = tuple(_OPENERS)
"""Endings of compressed files."""
# RFC 1952, RFC 8878; the file formats of bzip2 and of XZ.
_PACKED_HEADS: Final = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_POINTER: Final = b"version https://git-lfs"
_FOREIGN: Final[Mapping[bytes, tuple[str, str]]] = {
    _POINTER: ("a pointer of Git LFS, not the data", "fetch the data: git lfs pull"),
    b"\xff\xfe": ("text in UTF-16", "save it as UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "save it as UTF-8"),
    b"PAR1": ("a Parquet file", "set `source: parquet`, or let its name end in .parquet"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    b"\x04\x22\x4d\x18": ("compressed by lz4", "unpack it, or compress it as .gz or .zst"),
    b"ARROW1": ("an Arrow file", "save it as Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow file", "name the folder of save_to_disk with `source: huggingface`"),
    b"SQLite format 3": ("a database", "save its rows as JSONL"),
    b"%PDF": ("a PDF", "name a file of rows"),
    b"<!doctype": ("a web page, not the data", "download the file itself"),
    b"<html": ("a web page, not the data", "download the file itself"),
}
"""Begins so → (what it is, remedy)."""


def plain(path: Path) -> Path:
    """`answers.jsonl` of `answers.jsonl.gz`."""
    return path.with_suffix("") if path.suffix.lower() in _OPENERS else path


def text_bytes(path: Path) -> int:
    """About how many bytes `opened` reads."""
    return path.stat().st_size * (_TEXT_RATIO if _packing(path) else 1)


def ending(path: Path) -> str:
    """`.jsonl` of `a.JSONL.gz`; a Parquet file is compressed within, so that of `a.parquet.gz` is `.gz`."""
    inner = plain(path).suffix.lower()
    return path.suffix.lower() if inner == ".parquet" else inner


def is_pattern(path: str) -> bool:
    """Whether a path that is not there may name several files: `data/*.jsonl`."""
    return bool(_PATTERN & set(path))


def is_missing(path: str) -> bool:
    """Whether the path names nothing that is here."""
    try:
        return not Path(path).exists() and not is_pattern(path)
    except OSError:
        return True


def named(path: str, endings: Sequence[str], among: Sequence[str]) -> list[Path]:
    """The file itself, or sorted those of a pattern (`data/*.jsonl`), or those below a folder.

    Args:
        path: absolute.
        endings: what a file that is named may end in, compressed or not; none: anything.
        among: what is read of a folder, where other files may lie beside. Hidden files and folders are left out.

    Raises:
        ConfigError: there are none, or it is no regular file.
    """
    place = Path(path)
    try:
        if place.is_dir():
            endings = among
            below = ((file, file.relative_to(place).parts) for file in place.rglob("*"))
            found = sorted(file for file, parts in below if not any(part[0] == "." for part in parts))
        elif place.exists():
            found = [place]
            if not place.is_file():
                raise ConfigError(
                    f"prompts: {path}: is no regular file", "name a file, a folder or a pattern"
                )
        else:
            inside = str(place.relative_to(place.anchor))
            found = sorted(Path(place.anchor).glob(inside)) if is_pattern(path) else []
            hidden = path.count("/.")
            found = [file for file in found if str(file).count("/.") == hidden]
        found = [file for file in found if (not endings or ending(file) in endings) and file.is_file()]
    except (OSError, ValueError) as error:  # a name that is too long, no permission, `**` within a word
        raise ConfigError(f"prompts: {path}: cannot be read: {error}", "check `path`") from None
    if not found:
        shown = [ending for ending in endings or among if ending not in _ALIASES]
        none = f"no {' or '.join(shown)} file is there, nor one of text as {', '.join(PACKED)}"
        remedy = "check `path` (relative to the run file)"
        if place.is_dir():
            remedy = "name the files by a pattern: `path: FOLDER/*.txt`"
        elif not place.exists():
            none = f"no such file: {none}" if endings else "no such file"
        raise ConfigError(f"prompts: {path}: {none}", remedy)
    return found


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The text of a file as bytes, decompressed where its name or its first bytes say so.

    Raises:
        ConfigError: it is no text, or no regular file; or within it, where the compressed bytes are damaged.
    """
    with _decompressed(path) as file:
        refuse_foreign(path, file.peek(_HEAD_BYTES))
        yield file


def is_pointer(path: Path) -> bool:
    """Whether it is what Git LFS leaves in place of a file that was not fetched."""
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def refuse_foreign(path: Path, head: bytes | None = None) -> None:
    """Raises ConfigError where a file begins as something that is no text of rows; `head` is how it begins."""
    if head is None:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if b"\0" in head[:2]:
        head = codecs.BOM_UTF16_LE  # without its mark
    for begins, (what, remedy) in _FOREIGN.items():
        if head.startswith(begins) or (begins[:1] == b"<" and head.lstrip().lower().startswith(begins)):
            raise ConfigError(f"prompts: {path}:1: is {what}", remedy)


@contextmanager
def _decompressed(path: Path) -> Iterator[BufferedReader]:
    if not path.is_file():
        named(str(path), (), ())  # says why
    with _OPENERS.get(_packing(path), _plainly)(path) as file:
        try:
            yield cast(BufferedReader, file)
        except (OSError, zlib.error, lzma.LZMAError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk: what is wrong with compressed bytes is said without a number
            raise ConfigError(
                f"prompts: {path}: cannot be decompressed ({_packing(path)}): {error}",
                "fetch or compress it again",
            ) from error


def hashes(files: Sequence[Path], path: str) -> dict[str, str]:
    """SHA-256 of what each file holds, by its name.

    Compression is not part of it, nor the folder that a file is in, unless another one has a file of the same name.
    """
    by_name = dict[str, str]()
    names = Counter(plain(file).name for file in files)
    for file in files:
        name, state = plain(file).name, file.stat()
        if names[name] > 1:
            name = (file.relative_to(path) if file.is_relative_to(path) else file).as_posix()
        by_name[name] = _sha256(file, state.st_size, state.st_mtime_ns)
    return by_name


@lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, modified: int) -> str:
    """Of the file's content; size and time of change are there to notice another content."""
    with _decompressed(file) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _plainly(path: Path) -> BufferedReader:
    return path.open("rb")


def _packing(path: Path) -> str:
    """The ending of a compressed file, by its name, else by its first bytes; empty for another."""
    if (suffix := path.suffix.lower()) in _OPENERS:
        return suffix
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return next((packing for begins, packing in _PACKED_HEADS.items() if head.startswith(begins)), "")
