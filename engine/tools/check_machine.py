"""Doctor's checks of the machine: Python, libraries, devices, SQLite, the store's place and space."""

import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from engine.tools.findings import Finding, attempt
from storage import locations
from storage.store import Store, sqlite_driver

LEAST_SPACE = 2 * 2**30
"""Below so many free bytes a run may stop for lack of space."""


def findings() -> Iterator[Finding]:
    """Every check of the machine."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("libraries", "ok", ", ".join(_versions()))
    yield attempt("device", _device)
    yield attempt("memory", _memory)
    yield attempt("sqlite", _sqlite)
    yield attempt("store", _store)
    yield attempt("space", _space)


def _versions() -> Iterator[str]:
    for name in ("torch", "transformers", "peft", "vllm"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} not installed"


def _device() -> Finding:
    if not torch.cuda.is_available():
        return Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads for torch; no CUDA GPU")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return Finding(
        "device", "ok", ", ".join(f"{card.name}, {card.total_memory / 2**30:.0f} GiB" for card in cards)
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")


def _sqlite() -> Finding:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        driver = sqlite_driver()
    text = f"{driver.sqlite_version} ({driver.__name__.split('.')[0]})"
    if caught:
        return Finding("sqlite", "warning", f"{text}: {caught[0].message}", "pip install -U pysqlite3")
    return Finding("sqlite", "ok", f"{text}, without the known fault of the write-ahead log")


def _store() -> Finding:
    place = "named by --store or PERSYN_STORE" if os.environ.get("PERSYN_STORE") else "default"
    url = locations.parse(None)
    name = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        path = Path(str(url.database))
        above = next(folder for folder in path.parents if folder.exists())
        locations.refuse_network_filesystem(path)
        if not os.access(above, os.W_OK):
            return Finding(
                "store", "failed", f"{path} ({place}): {above} is not writable", "give --store PATH"
            )
        return Finding("store", "ok", f"{path} ({place}): not made yet, and can be")
    with Store.open(create=False) as store, store.write():
        pass
    return Finding("store", "ok", f"{name} ({place}): opens and can be written to")


def _space() -> Finding:
    url = locations.parse(None)
    path = Path(str(url.database)) if url.get_backend_name() == "sqlite" else Path.home() / "x"
    folder = next(folder for folder in path.parents if folder.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < LEAST_SPACE:
        return Finding("space", "warning", text, "free some space: a run pauses when the disk is full")
    return Finding("space", "ok", text)
