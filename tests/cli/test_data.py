"""`persyn data`: listing, one answer, search, rows taken out; hostile text stays harmless."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import datasets, routing
from storage.records import DatasetRow, NewPlan
from storage.store import Store

Persyn = Callable[..., Any]
# What may not reach a terminal: C0 but newline and tab, DEL, C1, bidi controls, lone surrogates.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("command", ["list", "search", "show"])
def test_hostile_text_is_harmless(command: str, persyn: Persyn, filled: Any) -> None:
    more = {"list": [], "search": ["gnp.exe"], "show": [str(filled.answers[1, "alpha"])]}[command]
    for form in ([], ["--json"]):
        ran = persyn("data", command, *more, *form)
        assert ran.code == 0, ran.err
        assert not HARMFUL.search(ran.out)
        assert not HARMFUL.search(ran.err)
        assert "[bold]markup[/bold]" in ran.out  # shown as it is, not interpreted


def test_the_list_is_newest_first_and_pages_by_key(persyn: Persyn, filled: Any) -> None:
    everything = [row["id"] for row in persyn("data", "list", "--json").json]
    assert everything == sorted(filled.answers.values(), reverse=True)
    first = persyn("data", "list", "-n", "2", "--json")
    assert [row["id"] for row in first.json] == everything[:2]
    assert f"--after {everything[1]}" in first.err
    second = persyn("data", "list", "-n", "2", "--after", str(everything[1]), "--json")
    assert [row["id"] for row in second.json] == everything[2:4]


def test_filters(persyn: Persyn, filled: Any) -> None:
    def ids(*filters: str) -> set[int]:
        return {row["id"] for row in persyn("data", "list", *filters, "--json").json}

    assert ids("--teacher", "alpha") == {filled.answers[0, "alpha"], filled.answers[1, "alpha"]}
    assert ids("--status", "truncated") == {filled.answers[2, "beta"]}
    rows = {filled.answers[0, "alpha"], filled.answers[1, "alpha"]}
    assert ids("--dataset", "demo/persyn") == ids("--dataset", str(filled.dataset)) == rows
    assert ids("--strategy", "persyn") == rows
    assert ids("--split", "synthesis") == set(filled.answers.values())
    assert ids("--split", "evaluation") == set()
    assert ids("--strategy", "persyn", "--teacher", "beta") == set()


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (["--teacher", "alpa"], "did you mean `alpha`?"),
        (["--status", "trunkated"], "did you mean `truncated`?"),
        (["--split", "calibraton"], "did you mean `calibration`?"),
        (["--dataset", "demo/persin"], "did you mean `demo/persyn`?"),
        (["--strategy", "oracle"], "oracle"),
    ],
)
def test_an_unknown_filter_is_refused_with_the_nearest(
    filters: list[str], words: str, persyn: Persyn, filled: Any
) -> None:
    ran = persyn("data", "list", *filters)
    assert ran.code == 2
    assert words in ran.err


def test_list_shows_scores(persyn: Persyn, filled: Any) -> None:
    rows = {row["id"]: row for row in persyn("data", "list", "--json").json}
    assert rows[filled.answers[0, "alpha"]]["scores"] == {"exact_answer": 1.0, "learnability": -0.5}
    line = next(line for line in persyn("data", "list").out.splitlines() if "The answer is 2." in line)
    assert line.split()[-7:-4] == ["1.00", "-0.50", "+0.25"]
    assert (rows[filled.answers[0, "alpha"]]["reward"], rows[filled.answers[0, "beta"]]["reward"]) == (
        0.25,
        None,
    )
    assert rows[filled.answers[0, "alpha"]]["reward_dataset"] == filled.dataset


def test_show_has_everything_known_of_an_answer(persyn: Persyn, filled: Any) -> None:
    number = filled.answers[0, "alpha"]
    data = persyn("data", "show", str(number), "--json").json
    assert data["prompt"]["messages"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert data["text"] == "The answer is 2."
    assert [(s["kind"], s["value"], s["sum"], s["count"]) for s in data["scores"]] == [
        ("exact_answer", 1.0, None, None),
        ("learnability", -0.5, -3.5, 7),
    ]
    assert data["reward"] == 0.25
    assert [(row["teacher"], row["text"]) for row in data["answers"]] == [
        ("alpha", "The answer is 2."),
        ("beta", "It equals 3, surely."),
    ]
    assert data["provenance"]["system"] == "Be brief."
    assert data["provenance"]["sampling"]["temperature"] == 0.5
    assert data["assignments"][0]["strengths"] == {"alpha": 0.75, "beta": -0.25}
    assert data["datasets"] == [
        {
            "id": filled.dataset,
            "name": "demo/persyn",
            "reward": 0.25,
            "reward_by": "α 0.4",
            "excluded": False,
        }
    ]
    assert (data["reward_by"]["words"], data["reward_by"]["alpha"]) == ("α 0.4", 0.4)
    text = persyn("data", "show", str(number)).out
    for words in (
        "It equals 3, surely.",
        "learnability -0.5000",
        "-3.5 over 7 tokens",
        "alpha +0.750",
        "reward +0.2500  by α 0.4",
    ):
        assert words in text


def test_show_of_nothing(persyn: Persyn, filled: Any) -> None:
    ran = persyn("data", "show", "999")
    assert ran.code == 2
    assert "there is no response 999" in ran.err


def test_search_finds_whole_words_and_takes_operators_literally(persyn: Persyn, filled: Any) -> None:
    first = persyn("data", "search", "equals", "surely", "--json")
    assert [hit["id"] for hit in first.json] == [filled.answers[0, "beta"]]
    assert "indexed 8 prompts and responses" in first.err
    assert "indexed" not in persyn("data", "search", "equals").err
    assert persyn("data", "search", 'equals" OR "answer', "--json").json == []
    assert persyn("data", "search", "   ").code == 2


def test_rows_are_excluded_and_restored(persyn: Persyn, filled: Any) -> None:
    prompt = str(filled.prompts[1])
    ran = persyn("data", "exclude", "demo/persyn", prompt)
    assert "excluded 1 row; `demo/persyn` now has 1" in ran.out
    assert f"persyn data restore {filled.dataset} {prompt}" in ran.err
    assert persyn("data", "datasets", "--json").json[0]["excluded"] == 1
    assert persyn("data", "show", str(filled.answers[1, "alpha"]), "--json").json["datasets"][0]["excluded"]
    assert persyn("data", "restore", str(filled.dataset), prompt, "--json").json == {
        "dataset": filled.dataset,
        "changed": 1,
        "rows": 2,
    }
    again = persyn("data", "restore", str(filled.dataset), prompt)
    assert "nothing to do: it is restored already" in again.out
    assert "undo" not in again.err


def test_excluding_a_prompt_that_has_no_row_changes_nothing(persyn: Persyn, filled: Any) -> None:
    ran = persyn("data", "exclude", "demo/persyn", str(filled.prompts[0]), "999")
    assert ran.code == 2
    assert "no row for prompt 999" in ran.err
    assert persyn("data", "datasets", "--json").json[0]["excluded"] == 0


def test_a_reader_that_leaves_early_is_no_failure(filled: Any) -> None:
    done = subprocess.run(
        f"{sys.executable} -m persyn_tui.cli data list -n 10000 --json | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env={**os.environ, "PERSYN_STORE": str(filled.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


@pytest.fixture
def twin(filled: Any) -> int:
    """Another dataset of the name `demo/persyn`, with other rewards."""
    manifest = {"strategy": "persyn", "job": 7, "reward": {"alpha": 0.9, "normalization": "rank"}}
    with Store.open(filled.path) as store:
        plan = routing.open_plan(store, None, NewPlan("twin", "persyn", 1, None, {}))
        made = datasets.open_dataset(store, None, "twin", plan.id, "demo/persyn", manifest)
        datasets.add(
            store, None, made.id, [DatasetRow(filled.prompts[0], filled.answers[0, "alpha"], reward=-1.0)]
        )
        datasets.finish(store, None, made.id, manifest)
        return made.id


@pytest.mark.parametrize("command", ["list", "export", "exclude"])
def test_a_name_that_two_datasets_have_is_refused_with_both(
    command: str, persyn: Persyn, filled: Any, twin: int, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    more = {
        "list": ["--dataset", "demo/persyn"],
        "export": ["demo/persyn", "-o", str(out)],
        "exclude": ["demo/persyn", str(filled.prompts[0])],
    }[command]
    ran = persyn("data", command, *more)
    assert ran.code == 2
    both = f"#{twin} (job 7, α 0.9 rank, 1 row) or #{filled.dataset} (α 0.4, 2 rows)"
    assert f"2 datasets have the name `demo/persyn`: {both}" in ran.err
    assert f"use the number: {twin} is the newest" in ran.err
    assert not out.exists()
    by_number = [str(twin) if word == "demo/persyn" else word for word in more]
    assert persyn("data", command, *by_number).code == 0
    newest = persyn("data", "list", "--strategy", "persyn", "--json")
    assert [row["id"] for row in newest.json] == [filled.answers[0, "alpha"]]
    assert f"the newest of 2 datasets of `persyn`: #{twin} (job 7, α 0.9 rank)" in newest.err


def test_rewards_of_two_settings_are_marked_and_named(persyn: Persyn, filled: Any, twin: int) -> None:
    listed = persyn("data", "list")
    assert "-1.00 b" in listed.out
    assert "rewards of 2 settings, not comparable with each other: a α 0.4, b α 0.9 rank" in listed.err
    within = persyn("data", "list", "--dataset", str(filled.dataset))
    assert "+0.25 " in within.out
    assert "reward: α 0.4" in within.err
    number = str(filled.answers[0, "alpha"])
    text = persyn("data", "show", number).out
    assert "reward −1.0000  by α 0.9 rank" in text
    assert "rewards by α 0.9 rank" in text
    assert f"dataset {filled.dataset} demo/persyn, reward +0.2500 by α 0.4" in text
    assert "α 0.9 rank" in persyn("data", "datasets").out
