"""What a run prints at its end, on a terminal of 80 columns."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from engine.job.failing_teachers import FailingTeacher, fails
from engine.report import summary


def strategy(name: str, **fields: Any) -> summary.Strategy:
    found = summary.Strategy(
        name=name,
        generations=1_483_000,
        rows=948_000,
        accuracy_before=0.035,
        accuracy_after=1.0,
        ci_low=0.168,
        ci_high=1.0,
        mean_reward=-0.123,
        mean_quality=None,
        mean_learnability=None,
        adapter=f"/a/folder/with/a/long/name/that/must/not/be/cut/{name}/0123456789abcdef0123456789abcdef/adapter",
        trained_rows=None,
        changed_since=False,
        merged=None,
        persyn_minus_this=summary.Difference(-0.225, -0.3, -0.1, 0.0314),
    )
    return replace(found, **fields)


def results(*strategies: summary.Strategy, **fields: Any) -> summary.Summary:
    found = summary.Summary(
        seconds=0.0,
        prompts=summary.Prompts(22, 88, 0, 29, 0),
        teachers=4,
        student="s",
        store="x.db",
        router=None,
        cost=summary.Cost(0.0, {}, None),
        verdicts={},
        strategies=strategies,
    )
    return replace(found, **fields)


def test_the_table_of_strategies_fits_80_columns_with_nothing_cut():
    found = results(
        strategy("family_strong"),
        strategy("persyn", accuracy_after=None, ci_low=None, mean_reward=None, persyn_minus_this=None),
        prompts=summary.Prompts(185_000, 3_515_000, 0, 765_000, 0),
        teachers=19,
        student="Qwen2.5-1.5B-Instruct",
        verdicts={
            "exact_answer": {"ok": 10, "unverifiable": 4},
            "judge": {"ok": 70, "unreadable": 5, "refused": 1},
        },
        store="/a/folder/persyn.db",
    )
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(summary.render(found))
    text = out.getvalue()
    assert "student Qwen2.5-1.5B-Instruct: 3.5% before" in " ".join(text.split())
    assert "strategy       generations" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("family_strong"))
    assert " ".join(row) == "family_strong 1,483,000 948,000 100.0% 16.8–100.0% -0.123 -22.5 (0.031)"
    assert "…" not in text
    assert "▲ judge: 76 verdicts, without a score: 5 unreadable, 1 refused" in text
    assert "exact_answer" not in text
    whole = "".join(text.split())  # over lines, and nothing lost
    assert "distilledby`persyn`:adapter/a/folder/with/a/long/name/that/must/not/be/cut/persyn/0123" in whole
    assert "persyn--store/a/folder/persyn.db" in whole
    assert "(1 more is named by --json)" in text


def test_a_fallback_is_counted_where_the_formula_is_told():
    found = results(strategy("persyn", generations=118, persyn_minus_this=None, adapter=None))
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(summary.render(found))
    assert "C·M + (N − C) = 22·4 + 29 + 1 fallback = 118 generations" in out.getvalue()


def test_what_a_run_has_cost_is_told_where_it_cost_something():
    def told(**cost: Any) -> str:
        return str(replace(summary.Cost(0.0, {}, None), **cost))

    assert told() == told(verdicts={"judge": 0.0}) == ""
    assert (
        told(answers=1.5, verdicts={"judge": 0.25})
        == "spent $1.7500: $1.5000 for responses, $0.2500 for judge"
    )
    assert told(budget=20) == "spent $0.0000 of $20.00: $0.0000 for responses"


def test_a_teacher_that_fails_on_most_of_its_prompts_is_named():
    failing = FailingTeacher("far", 15, {"error": 14}, "HTTP 422: no")
    said = "teacher `far` has no usable response to 14 of 15 prompts (14 error); the last error: HTTP 422: no"
    assert str(failing) == said
    out = io.StringIO()
    found = results(strategy("persyn"), failing_teachers=(failing,))
    Console(file=out, width=80, color_system=None).print(summary.render(found))
    assert f"▲ {said}" in " ".join(out.getvalue().split())
    assert summary.as_json(results(failing_teachers=(failing,)))["failing_teachers"][0]["name"] == "far"
    assert fails({"error": 8, "ok": 7})
    assert not fails({"error": 7, "ok": 7})
    assert not fails({})
