"""A router on disk: safetensors, and a manifest that says what they belong to.

The manifest is written last and in one step. Tensor files are named by their content, so saving into a folder
that already holds a router replaces it atomically: until the new manifest is in place, the old one is whole.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.base.durable_files import sha256, sync
from engine.base.errors import ModelError
from engine.router import manifest as manifests
from engine.router.manifest import FORMAT, MANIFEST, RETRAIN, Manifest


def write(folder: Path, manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Manifest:
    """Return the manifest as written, with its files; `folder` then holds exactly this router.

    Args:
        folder: made if need be.
        manifest: its `files` are filled in here.
        tensors: file stem → tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {stem: _write_tensors(folder, stem, group) for stem, group in tensors.items()}
    whole = replace(manifest, files=files)
    temporary = folder / f".{MANIFEST}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as out:
            json.dump({"format": FORMAT, **asdict(whole)}, out, indent=2, allow_nan=False)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    for old in folder.glob("*.safetensors"):
        if old.name not in {entry["name"] for entry in files.values()}:
            old.unlink()
    return whole


def read(folder: Path) -> tuple[Manifest, dict[str, dict[str, Tensor]]]:
    """Return the manifest and the tensors by file stem, each file checked against its sha256.

    Raises:
        ModelError: no router there, another format, or a file that is missing or damaged.
    """
    manifest = manifests.read(folder)
    tensors = {}
    for stem, entry in manifest.files.items():
        path = folder / entry["name"]
        if not path.is_file():
            raise ModelError(f"{path} is missing", RETRAIN)
        if sha256(path) != entry["sha256"]:
            raise ModelError(f"{path} is damaged: its sha256 is not that of the manifest", RETRAIN)
        tensors[stem] = load_file(path)
    return manifest, tensors


def _write_tensors(folder: Path, stem: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the file's name and sha256 once it is on disk under the name of its content."""
    temporary = folder / f".{stem}.{os.getpid()}.tmp"
    try:
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        sha = sha256(temporary)
        name = f"{stem}-{sha[:12]}.safetensors"
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    return {"name": name, "sha256": sha}
