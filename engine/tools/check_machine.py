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

from engine.tools.findings import Finding, check, failed, ok, warning
from storage import locations
from storage.store import Store, sqlite_driver

LEAST_SPACE = 2 * 2**30
"""Below so many free bytes a run may stop for lack of space."""


def findings() -> Iterator[Finding]:
    """Every check of the machine."""
    yield check("python", _python)
    yield check("libraries", _libraries)
    yield check("device", _device)
    yield check("memory", _memory)
    yield check("sqlite", _sqlite)
    yield check("store", _store)
    yield check("space", _space)


def _python() -> Finding:
    return ok(f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _libraries() -> Finding:
    versions = []
    for name in ("torch", "transformers", "peft", "bitsandbytes", "vllm"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    return ok(", ".join(versions))


def _device() -> Finding:
    if not torch.cuda.is_available():
        return ok(f"CPU, {torch.get_num_threads()} threads for torch; no CUDA GPU")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    each = "; scoring and routing use each of them, unless `devices` names some" if len(cards) > 1 else ""
    return ok(", ".join(f"{card.name}, {card.total_memory / 2**30:.0f} GiB" for card in cards) + each)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return ok(f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")


def _sqlite() -> Finding:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        driver = sqlite_driver()
    text = f"{driver.sqlite_version} ({driver.__name__.split('.')[0]})"
    if caught:
        return warning(f"{text}: {caught[0].message}", "pip install -U pysqlite3")
    return ok(f"{text}, without the known fault of the write-ahead log")


def _store() -> Finding:
    place = "named by --store or PERSYN_STORE" if os.environ.get("PERSYN_STORE") else "default"
    url = locations.parse(None)
    name = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        path = Path(str(url.database))
        above = next(folder for folder in path.parents if folder.exists())
        locations.refuse_network_filesystem(path)
        if not os.access(above, os.W_OK):
            return failed(f"{path} ({place}): {above} is not writable", "give --store PATH")
        return ok(f"{path} ({place}): not made yet, and can be")
    with Store.open(create=False) as store, store.write():
        pass
    return ok(f"{name} ({place}): opens and can be written to")


def _space() -> Finding:
    url = locations.parse(None)
    path = Path(str(url.database)) if url.get_backend_name() == "sqlite" else Path.home() / "x"
    folder = next(folder for folder in path.parents if folder.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < LEAST_SPACE:
        return warning(text, "free some space: a run pauses when the disk is full")
    return ok(text)
