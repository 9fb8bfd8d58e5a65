"""Files that must survive a power cut and be known by their content."""

import hashlib
import os
from pathlib import Path


def sha256(path: Path) -> str:
    """The file's SHA-256 as hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Puts a file, or a folder's entries (so that a rename lasts), on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
