"""What a run prints at its end, on a terminal of 80 columns."""

import io
from typing import Any

from rich.console import Console

from engine.report import summary


def strategy(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "generations": 1_483_000,
        "rows": 948_000,
        "accuracy_before": 0.035,
        "accuracy_after": 1.0,
        "ci_low": 0.168,
        "ci_high": 1.0,
        "mean_reward": -0.123,
        "persyn_minus_this": {"difference": -0.225, "p": 0.0314},
        "adapter": f"/a/folder/with/a/long/name/that/must/not/be/cut/{name}/0123456789abcdef0123456789abcdef/adapter",
        "merged": None,
        **fields,
    }


def test_the_table_of_strategies_fits_80_columns_with_nothing_cut():
    found = {
        "prompts": {"calibration": 185_000, "calibration_answers": 3_515_000, "synthesis": 765_000},
        "teachers": 19,
        "student": "Qwen2.5-1.5B-Instruct",
        "strategies": [
            strategy("family_strong"),
            strategy("persyn", accuracy_after=None, ci_low=None, mean_reward=None, persyn_minus_this=None),
        ],
        "router": None,
        "cost": {"answers": 0.0, "verdicts": {}, "budget": None},
        "verdicts": {
            "exact_answer": {"ok": 10, "unverifiable": 4},
            "judge": {"ok": 70, "unreadable": 5, "refused": 1},
        },
        "store": "/a/folder/persyn.db",
    }
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


def test_a_fallback_is_counted_where_the_formula_is_told():
    found = {
        "prompts": {"calibration": 22, "calibration_answers": 88, "synthesis": 29},
        "teachers": 4,
        "student": "s",
        "strategies": [strategy("persyn", generations=118, persyn_minus_this=None, adapter=None)],
        "router": None,
        "cost": {"answers": 0.0, "verdicts": {}, "budget": None},
        "verdicts": {},
        "store": "x.db",
    }
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(summary.render(found))
    assert "C·M + (N − C) = 22·4 + 29 + 1 fallback = 118 generations" in out.getvalue()


def test_what_a_run_has_cost_is_told_where_it_cost_something():
    def told(**cost: Any) -> str:
        return summary._spent({"answers": 0.0, "verdicts": {}, "budget": None, **cost})

    assert told() == told(verdicts={"judge": 0.0}) == ""
    assert (
        told(answers=1.5, verdicts={"judge": 0.25}) == "spent $1.7500: $1.5000 for answers, $0.2500 for judge"
    )
    assert told(budget=20) == "spent $0.0000 of $20.00: $0.0000 for answers"
