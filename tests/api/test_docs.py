"""The examples of docs/api.md, in order and word for word, in one process of a person who follows the page."""

import re
import subprocess
import sys
from pathlib import Path

from support import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def examples() -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    return "\n".join(blocks)


def test_the_examples_of_the_page_run_and_say_what_the_page_says(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.write()
    (tmp_path / "page.py").write_text(
        examples()
        + "\nassert result.state == 'done' and all((row.reward or -9) <= best.reward for row in rows)\n"
        "assert rewards.argmax(axis=1) == [2] and strengths.shape == (1, 2)\n"
        "assert dataset[0]['messages'][-1]['role'] == 'assistant'\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "done " in lines
    assert any(re.fullmatch(r"\w+ [1-9]\d*/\d+", line) for line in lines), "progress was told"
    assert any(line.startswith("persyn ") for line in lines)


def test_importing_the_package_imports_no_torch() -> None:
    program = (
        "import sys, persyn; print([m for m in ('torch', 'transformers', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
