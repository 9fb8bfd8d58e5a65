"""Code outside a kind's own file asks what the kind declares and never compares its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

from engine.base.plugins import GROUPS

ROOT = Path(__file__).parents[2]
REASONS = {
    "storage/listing.py": "the column `learnability` is the newest score of that scorer, as the tables have it",
    "engine/report/export.py": "`parquet` and `huggingface` are formats that are written",
    "persyn_tui/app/screens/data/export_form.py": "the same formats",
    "engine/teachers/vllm_server/command.py": "`vllm` is the program",
    "persyn_tui/app/screens/models/screen.py": "`reward_model` is a registered model's role",
    "persyn_tui/app/screens/wizard/references.py": "which verifier fits a column of answers",
}


def compared(tree: ast.AST) -> Iterator[str]:
    """The texts that are compared with something, looked for in something, or matched."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            parts += [
                each
                for part in parts
                if isinstance(part, ast.Tuple | ast.List | ast.Set)
                for each in part.elts
            ]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        yield from (str(part.value) for part in parts if isinstance(part, ast.Constant))


def test_no_code_compares_the_names_of_kinds() -> None:
    names = {name for group in GROUPS for name in group.names()}
    folders = [ROOT.joinpath(*group.package.split(".")) for group in GROUPS]
    found: dict[str, list[str]] = {}
    for top in ("engine", "storage", "persyn_tui", "persyn"):
        for file in (ROOT / top).rglob("*.py"):
            own = {file.stem} if file.parent in folders else set()
            told = [word for word in compared(ast.parse(file.read_text("utf-8"))) if word in names - own]
            if told:
                found[file.relative_to(ROOT).as_posix()] = told
    assert found.keys() <= REASONS.keys(), found
