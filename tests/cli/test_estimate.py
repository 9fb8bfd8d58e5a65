"""The dry run against numbers worked out by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app.small_run import make
from plugin_package import installed
from rich.console import Console

from engine.base.errors import ConfigError
from engine.base.plugins import STRATEGIES
from engine.config import run_file
from engine.report import dry_run, estimate, existing_work
from engine.zoo import resolve
from persyn_tui.commands.run import compare
from storage import jobs, routing
from storage.speeds import Speed
from storage.store import Store

EXAMPLES = Path(__file__).parents[2] / "examples"

RUN = """
student: {name: s, model: "zoo:student", family: f}
teachers:
  - {name: small, backend: openai, model: m, family: f, parameters: 1e9, price: {input: 1, output: 2},
     tokens_per_second: 10, base_url: "http://a/v1"}
  - {name: big, backend: openai, model: m, family: g, parameters: 9e9, price: {input: 10, output: 20},
     tokens_per_second: 4, expected_tokens: 40, base_url: "http://b/v1"}
prompts: [{source: reasoning_gym, task: gcd, size: 110}]
split: {calibration: 8, validation: 2, evaluation: 10}
estimate: {prompt_tokens: 10, completion_tokens: 20}
strategies: [strong, mix, family_strong, car, random, persyn, oracle]
"""
# N = 100, C = 10, M = 2. A prompt costs, in millionths of a dollar: small 10·1 + 20·2 = 50, big 10·10 + 40·20 = 900.


def found(text: str = RUN) -> estimate.Estimate:
    return estimate.estimate(run_file.parse(text))


def test_all_and_routed() -> None:
    result = found()
    assert (result.n, result.c, result.evaluation) == (100, 10, 10)
    assert result.all.generations == 200
    assert result.routed.generations == 10 * 2 + 90
    assert result.ratio == pytest.approx(200 / 110)
    assert result.all.prompt_tokens == 2000
    assert result.all.completion_tokens == 100 * 20 + 100 * 40
    assert result.all.cost == pytest.approx(100 * 950e-6)
    assert result.routed.cost == pytest.approx((10 + 45) * 950e-6)
    # Endpoints work side by side: the slower one decides, 10 s an answer.
    assert result.all.seconds == pytest.approx(1000)
    assert result.routed.seconds == pytest.approx(550)


def test_what_a_scorer_with_a_model_here_reads_is_said_beside_the_tables() -> None:
    (row,) = found().readings  # exact_answer has no model
    assert (row.name, row.responses, row.tokens) == ("learnability", 110, 110 * 30 + 100 * 10)
    assert dry_run.read(found())[0].startswith("learnability reads about 110 responses, 4.3 k tokens")


def test_of_imported_responses_none_is_generated_and_no_table_of_zeros_is_shown() -> None:
    imported = """
student: {name: s, model: "zoo:student"}
teachers: [{name: a, backend: imported, model: a}, {name: b, backend: imported, model: b}]
prompts: [{source: reasoning_gym, task: gcd, size: 30}]
split: {calibration: 10, validation: 2}
"""
    result = found(imported)
    console = Console(record=True, width=100)
    console.print(dry_run.render(result))
    shown = console.export_text()
    assert "nothing is generated" in shown
    assert "times fewer" not in shown
    assert "routed" not in shown
    assert result.readings[0].responses == 12 * 2 + 18


def test_models_of_stages_that_will_not_run_are_left_out(persyn: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    whole, short, wrong = (
        persyn("run", "--dry-run", "--json", str(file), *until)
        for until in ((), ("--until", "score"), ("--until", "scoring"))
    )
    assert [need["about"] for need in whole.json["memory"]] == ["student s", "router", "training"]
    assert [need["about"] for need in short.json["memory"]] == ["student s"]
    assert "this run ends after `score`" in short.json["assumptions"][-1]
    assert "did you mean" in wrong.err


def test_no_answer_is_expected_to_be_longer_than_it_may_be() -> None:
    short = found(RUN + "generation: {max_tokens: 30}\n")
    assert short.all.completion_tokens == 100 * 20 + 100 * 30


def test_every_teacher_and_strategy() -> None:
    result = found()
    small, big = result.teachers
    assert (small.all.generations, small.routed.generations) == (100, 55)
    assert (big.all.cost, big.routed.cost) == (pytest.approx(0.09), pytest.approx(0.0495))
    rows = {row.name: row for row in result.strategies}
    costs = {name: (row.low.cost * 1e6, row.high.cost * 1e6) for name, row in rows.items()}
    assert costs["strong"] == pytest.approx((90_000, 90_000))
    assert costs["mix"] == pytest.approx((20 * 900 + 80 * 50,) * 2)
    assert costs["family_strong"] == pytest.approx((5_000, 5_000))
    # car: 10 prompts by both, then 90 by the one that calibration chooses.
    assert costs["car"] == pytest.approx((9_500 + 90 * 50, 9_500 + 90 * 900))
    assert costs["random"] == pytest.approx((50 * 950,) * 2)
    assert costs["persyn"] == pytest.approx((55 * 950,) * 2)
    assert costs["oracle"] == pytest.approx((95_000, 95_000))
    assert {name: row.low.generations for name, row in rows.items()} == {
        "strong": 100,
        "mix": 100,
        "family_strong": 100,
        "car": 110,
        "random": 100,
        "persyn": 110,
        "oracle": 200,
    }


def test_local_teachers_run_one_after_the_other_beside_the_endpoints() -> None:
    half = RUN.replace("backend: openai", "backend: vllm", 1).replace(', base_url: "http://a/v1"', "")
    local = half.replace("backend: openai", "backend: vllm").replace(', base_url: "http://b/v1"', "")
    assert found(local).all.seconds == pytest.approx(200 + 1000)
    assert found(half).all.seconds == pytest.approx(1000)  # small here (200 s), big elsewhere


def test_an_unknown_speed_leaves_the_time_open_and_names_the_teacher(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = found(RUN.replace("tokens_per_second: 4, ", ""))
    assert result.all.seconds is None
    assert result.teachers[0].all.seconds == pytest.approx(200)
    assert result.speed_unknown == ("big",)
    assert {row.name for row in result.strategies if row.low.seconds is not None} == {"family_strong"}
    Console(width=100).print(dry_run.render(result))
    assert "no response of big is stored yet" in capsys.readouterr().out


def test_unknown_sizes_make_a_range() -> None:
    strong = found(RUN.replace("parameters: 9e9, ", "")).strategies[0]
    assert strong.low.generations == strong.high.generations == 110
    assert (strong.low.cost, strong.high.cost) == (pytest.approx(0.014), pytest.approx(0.0905))


def test_files_are_counted_and_size_is_a_limit(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n' * 30)
    (tmp_path / "p.csv").write_text('prompt\n"one\nline"\ntwo\n')
    text = RUN.replace(
        "prompts: [{source: reasoning_gym, task: gcd, size: 110}]",
        f"prompts: [{{source: jsonl, path: {tmp_path / 'p.jsonl'}, size: 50}},"
        f" {{source: csv, path: {tmp_path / 'p.csv'}, split: synthesis}}]",
    )
    assert found(text).n == 50 - 10 + 2


def test_a_source_that_is_not_here_needs_a_size() -> None:
    away = "prompts: [{source: huggingface, path: some/where}]"
    text = RUN.replace("prompts: [{source: reasoning_gym, task: gcd, size: 110}]", away)
    with pytest.raises(ConfigError, match="cannot be counted") as error:
        found(text)
    assert "set `size`" in error.value.remedy
    assert found(text.replace("where}", "where, size: 60}")).n == 50


def test_splits_beyond_the_prompts_are_refused() -> None:
    with pytest.raises(ConfigError, match="120 prompts are asked for and the sources have 110"):
        found(RUN.replace("evaluation: 10", "evaluation: 110"))


@pytest.mark.parametrize(
    ("name", "m", "n", "routed"), [("instruct", 19, 50_000, 95_000), ("math", 15, 10_000, 45_000)]
)
def test_the_papers_settings_print(
    name: str, m: int, n: int, routed: int, persyn: Callable[..., Any]
) -> None:
    file = str(EXAMPLES / f"paper-{name}.yaml")
    data = persyn("run", "--dry-run", "--json", file).json
    assert (data["m"], data["n"], data["c"]) == (m, n, 2500)
    assert data["all"]["generations"] == n * m
    assert data["routed"]["generations"] == pytest.approx(routed)
    assert data["all"]["cost"] > data["routed"]["cost"] > 0
    ran = persyn("run", "--dry-run", file)
    assert ran.code == (2 if data["problems"] else 0)
    assert f"{n * m:,} generations" in ran.out
    assert f"{routed:,} generations" in ran.out


def test_the_five_kinds_of_teacher_print_without_any_of_them(persyn: Callable[..., Any]) -> None:
    path = EXAMPLES / "teachers.yaml"
    run = run_file.load(path)
    local = [teacher for teacher in run.teachers if teacher.backend == "transformers"]
    assert [teacher.backend for teacher in run.teachers if teacher not in local] == ["vllm", "openai"]
    assert [(bool(teacher.adapter), teacher.model.endswith(".gguf")) for teacher in local] == [
        (False, False),
        (False, True),
        (True, False),
    ]
    assert len(run.teachers[1].base_url or ()) == 2
    ran = persyn("run", "--dry-run", str(path))
    assert ran.code == 2, ran.err
    assert "The run itself would be refused here" in ran.err
    for teacher in run.teachers:
        assert f"\n{teacher.name}" in ran.out
    # 3,800 answers of 400 tokens, each judged in one request of 120 + 400 + 150 tokens with a reply of 300.
    dollars = 3800 * (670 * 0.15 + 300 * 0.6) / 1e6
    assert f"about ${dollars:,.2f}" in " ".join(ran.out.split())


def test_a_judge_of_pairs_asks_for_both_orders() -> None:
    text = (
        RUN
        + "quality: {scorer: judge, model: j, mode: pairs, base_url: 'http://j/v1', price: {output: 1000}}\n"
    )
    (line,) = dry_run.judged(found(text))
    # 10 prompts, 2 answers: 2 orders each.
    assert "at most 20 requests" in line
    assert "$6.00" in line


def test_what_was_measured_is_used_where_the_run_file_says_nothing() -> None:
    measured = {"small": Speed(10, 500, 100.0), "big": Speed(50, 5000, 10.0)}
    result = estimate.estimate(run_file.parse(RUN.replace("tokens_per_second: 4, ", "")), measured)
    assert result.speed_unknown == ()
    # small: 10 tokens a second as its entry says, 50 an answer as measured; big: 40 and 500 the other way round.
    assert result.teachers[0].all.seconds == pytest.approx(100 * 50 / 10)
    assert result.teachers[1].all.seconds == pytest.approx(100 * 40 / 500)
    assert any("50 stored responses of big: 500 tokens a second" in line for line in result.assumptions)


def test_what_a_cancelled_job_has_stored_is_taken_off(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        made = make(store, tmp_path)
        run = made.context.run
        assert existing_work.of_run(store, run.model_copy(update={"prompts": ()})) is None
        assert estimate.estimate(run, None, existing_work.of_run(store, run)).left is None
        for place, teacher in ((0, 0), (1, 0), (0, 1)):
            made.answer(place, teacher)
        made.answer(2, 1, "no such host", "error")
        jobs.release(store, made.stage("calibrate", 3, 6), "cancelled")
        found = estimate.estimate(run, None, existing_work.of_run(store, run))
        # N = 6, C = 3, M = 2; the two teachers have answered 2 and 1 of the calibration prompts.
        assert (found.all.generations, found.routed.generations) == (12, 9)
        assert found.left is not None
        assert (found.left.all.generations, found.left.routed.generations) == (12 - 3, 9 - 3)
        rows = {row[0]: row[1:3] for row in dry_run.totals(found)}
        assert rows["all teachers"] == ("3 of 12", "9")
        assert rows["routed"] == rows["persyn"] == ("3 of 9", "6")
        assert rows["strong"] == ("2 of 6", "4")
        assert found.left.all.cost == pytest.approx(found.all.cost * 4 / 6)
        plan = made.route("persyn", [0, 0, 0, 0, 1, 1])
        routing.finish_plan(store, None, plan)
        made.answer(3, 0)
        made.answer(3, 1)
        found = estimate.estimate(run, None, existing_work.of_run(store, run))
        rows = {row[0]: row[1:3] for row in dry_run.totals(found)}
        assert rows["all teachers"] == ("5 of 12", "7")
        assert rows["routed"] == ("4 of 9", "5")
        assert "5 of 12 (all teachers), 4 of 9 (routed)" in dry_run.already(found)[0]
        assert dry_run.already(found)[1].endswith("0 of 5 by exact_answer, 0 of 5 by learnability")


def test_the_teachers_rows_add_up_to_the_total_that_is_shown() -> None:
    three = RUN.replace(
        "prompts:", "  - {name: third, model: m, family: f, parameters: 2e9}\nprompts:"
    ).replace("size: 110", "size: 120")
    result = found(three)  # 100 prompts to share out among three teachers
    shown = {row[0]: (row[1], row[2]) for row in dry_run.per_teacher(result)}
    assert shown == {"small": ("110", "44"), "big": ("110", "43"), "third": ("110", "43")}
    assert {row[0]: row[1] for row in dry_run.totals(result)}["routed"] == "130"


@pytest.mark.parametrize(
    ("parts", "total", "shown"),
    [
        ([1 / 3] * 3, 1.0, [1, 0, 0]),
        ([10.5, 10.5], 21.0, [11, 10]),
        ([0.5, 1.7, 2.8], 5.0, [0, 2, 3]),
        ([0.4, 0.4], 0.8, [1, 0]),
        ([7.0, 0.0], 7.0, [7, 0]),
        ([2.9999999, 3.0], 6.0, [3, 3]),
    ],
)
def test_shares_are_those_of_the_largest_remainder(
    parts: list[float], total: float, shown: list[int]
) -> None:
    assert dry_run._shares(parts, total) == shown


def test_compare_names_a_strategy_that_cannot_be_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text((Path(resolve.__file__).parent / "demo.yaml").read_text())
    with installed(tmp_path, STRATEGIES, "broken", "import nowhere_at_all"):
        compare(file, dry_run=True, store=str(tmp_path / "store.db"), as_json=True)
    said = capsys.readouterr()
    assert "compare: without `broken`: " in said.err
    assert "`broken` of added_broken cannot be imported: ModuleNotFoundError" in said.err
    assert json.loads(said.out)["n"] > 0
