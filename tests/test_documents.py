"""What the documents name is there: files, tests, links, decisions."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "engine/zoo/README.md"]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in (
        "engine",
        "storage",
        "persyn",
        "persyn_tui",
        "tests",
        "tools",
        "benchmarks",
        "docs",
        "examples",
    )
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".md")
]
TESTS = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]


def files(named: str) -> list[str]:
    """The files of the tree whose path ends so."""
    return [path for path in SOURCES if path == named or path.endswith(f"/{named}")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_test_and_link_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    missing = [
        f"{named}: {name}"
        for named, name in re.findall(r"`([\w/]+\.py): (\w+)", prose)
        if not any(
            re.search(rf"^(class|def) {name}\b", (ROOT / path).read_text(), re.MULTILINE)
            for path in files(named)
        )
    ]
    for code in re.findall(r"`([^`\n]+)`", prose):
        for named, test in re.findall(r"([\w/.-]+\.py)(?:::(\w+))?", code):
            found = files(named)
            if not found or (test and not any(f"def {test}" in (ROOT / path).read_text() for path in found)):
                missing.append(f"{named}::{test}" if test else named)
        if (test := re.match(r"(?:::)?(test_\w+)…?$", code)) and not any(
            f"def {test[1]}" in text for text in TESTS
        ):
            missing.append(test[1])
    links = re.findall(r"\]\(([^)#:]+)\)", prose)
    missing += [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_every_file_that_a_docstring_names_exists() -> None:
    here = [ROOT / path for path in SOURCES if path.endswith(".py") and not path.startswith("tests/")]
    words = [
        (path.relative_to(ROOT).as_posix(), named)
        for path in here
        for doc in re.findall(r'"""(.*?)"""', path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for named in re.findall(r"(?<![\w./])([\w/]+\.py)\b", doc)
    ]
    assert words
    assert [(path, named) for path, named in words if not files(named)] == []


def test_every_decision_is_in_the_index_with_its_title_and_date() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for file in sorted(folder.glob("0*.md")):
        title, _, date = file.read_text(encoding="utf-8").splitlines()[:3]
        row = f"| {int(file.name[:3])} | {date} | [{title.removeprefix('# ')}]({file.name}) |"
        assert row in index
