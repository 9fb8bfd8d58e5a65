"""A package that cannot be imported, or that adds a name twice, is named where that name is used and nowhere else."""

from pathlib import Path

import pytest
from plugin_package import installed

from engine.base.errors import ConfigError
from engine.base.plugins import GROUPS, SCORERS, STRATEGIES, TEACHERS, VERIFIERS, Group
from engine.config import json_schema, run_file
from engine.registry import model_settings

RUN = """
student: {name: s, model: zoo:student}
teachers: [{name: t, model: zoo:adder, %s}]
prompts: [{source: jsonl, path: p.jsonl, %s}]
quality: {scorer: %s}
strategies: [%s]
split: {calibration: 10}
"""
USED = {
    TEACHERS: ("backend: broken", "size: 9", "exact_answer", "random"),
    SCORERS: ("revision: ''", "size: 9", "broken", "random"),
    STRATEGIES: ("revision: ''", "size: 9", "exact_answer", "broken"),
    VERIFIERS: ("revision: ''", "verifier: broken", "exact_answer", "random"),
}
BROKEN = "import nowhere_at_all"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.word)
def test_a_package_that_cannot_be_imported_stops_nothing_that_does_not_use_it(
    group: Group, tmp_path: Path
) -> None:
    with installed(tmp_path, group, "broken", BROKEN):
        assert "broken" in group.names()
        assert "broken" not in group.usable()
        assert '"broken"' not in json_schema.json_schema()
        assert "name" in model_settings.of_role("teacher")
        run_file.parse(RUN % ("revision: ''", "size: 9", "exact_answer", "random"))


@pytest.mark.parametrize("group", USED, ids=lambda group: group.word)
def test_using_it_names_the_package(group: Group, tmp_path: Path) -> None:
    with (
        installed(tmp_path, group, "broken", BROKEN),
        pytest.raises(ConfigError, match="`broken` of added_broken cannot be imported: ModuleNotFoundError"),
    ):
        run_file.parse(RUN % USED[group])


def test_a_source_that_cannot_be_imported_is_named_too(tmp_path: Path) -> None:
    with (
        installed(tmp_path, GROUPS[3], "broken", BROKEN),
        pytest.raises(ConfigError, match="`broken` of added_broken cannot be imported"),
    ):
        run_file.parse((RUN % USED[TEACHERS]).replace("source: jsonl", "source: broken"))


def test_two_packages_that_add_one_name_are_both_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with installed(tmp_path, SCORERS, "twice", ""):
        metadata = other / "another-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[persyn.scorers]\ntwice = another\n")
        with pytest.MonkeyPatch.context() as patched:
            patched.syspath_prepend(str(other))
            with pytest.raises(ConfigError) as caught:
                SCORERS.names()
    assert {"added_twice", "another"} <= set(caught.value.message.replace("`", " ").split())
