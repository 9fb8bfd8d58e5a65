"""Screen 3 on small real stores: what it shows of each stage, its keys, and why a teacher was chosen."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from app.support import running, until
from textual.widgets import Input, Static

from engine import config
from engine.context import Context
from engine.labels import evidence, scoring
from engine.models import registry
from engine.progress import from_json
from engine.reader import reader
from engine.stages import prompts as prompt_stage
from persyn_tui.app.confirm import Confirm
from persyn_tui.app.router.helper import reason
from persyn_tui.app.router.routed import Question, Routed
from persyn_tui.app.router.screen import RouterScreen
from persyn_tui.app.router.slider import Slider
from persyn_tui.app.router.why import WhyScreen
from persyn_tui.app.router.words import later
from persyn_tui.app.sheet import Sheet
from storage import jobs, prompts, responses, routing, scores
from storage import registry as stored_models
from storage.records import Assignment, Completion, NewResponse, Prompt, Verdict
from storage.store import Store

HOSTILE = "\x1b]0;owned\x07\x1b[31mred \u202egnp.exe [bold]markup[/bold]"
RUN = """
name: small
student: {name: s, model: "zoo:student"}
teachers: [{name: brief, model: "zoo:brief"}, {name: spell, model: "zoo:speller"}]
prompts: [{source: jsonl, path: p.jsonl}]
split: {calibration: 4, validation: 2}
router: {backbone: "zoo:student"}
strategies: [strong, persyn]
"""
QUALITY = [(1, 0), (0, 1), (1, 1), (0, 0), (1, 0), (0, 1)]
LEARNABILITY = [(-1.0, -0.2), (-0.2, -1.0), (-0.5, -0.9), (-0.1, -0.2), (-1.0, -0.2), (-0.9, -0.3)]
# Quality first: best are brief, spell, brief (by learnability), none (all wrong), brief, spell.
# Learnability alone turns the first two and the fifth round.
STRENGTHS = [(1.0, 0.0), (0.0, 0.5), (0.3, 0.2), (0.0, 2.0), (0.5, 0.0), (0.0, 0.5), (0.1, 0.0), (0.0, 0.9)]
TEXTS = [f"question number {i}" for i in range(7)] + [HOSTILE]


@dataclass
class Made:
    """A store with a run of 8 prompts: 4 calibration, 2 validation, 2 synthesis; the last one is hostile."""

    path: Path
    file: Path
    job: int
    prompts: list[int]

    @property
    def location(self) -> str:
        return str(self.path)

    def context(self, store: Store) -> Context:
        return reader(store, config.load(self.file))

    def answer(self) -> None:
        """Stores the answers and both scores of the first 6 prompts."""
        with Store.open(self.path) as store:
            context = self.context(store)
            known = self.prompts[:6]
            rows = [
                NewResponse(
                    n, g.teacher_id, g.generation_sha, Completion(n, HOSTILE, "ok", "stop", 1, 3, 0.1)
                )
                for n in known
                for g in context.generations
            ]
            responses.add(store, None, rows)
            found = responses.of_prompts(store, known, context.generations)
            for kind, values in (("exact_answer", QUALITY), ("learnability", LEARNABILITY)):
                verdicts = [
                    (found[n][g.teacher_id].id, Verdict(float(values[place][column])))
                    for place, n in enumerate(known)
                    for column, g in enumerate(context.generations)
                ]
                scores.add(store, None, scoring.scorer_id(context, kind), verdicts)

    def route(self, places: Sequence[int] = range(8)) -> int:
        """Stores the router's record and assigns these prompts by `STRENGTHS`; the plan's id."""
        with Store.open(self.path) as store:
            context = self.context(store)
            measured = {
                "n": 2,
                "on": "prompts it never saw",
                **{"hit_at_1": 1.0, "hit_at_3": 1.0, "regret": 0.125},
                **{"chance_hit_at_1": 0.5, "chance_hit_at_3": 1.0, "random_regret": 0.75},
            }
            router = routing.put_router(
                store, None, context.router_sha, context.student_id, "routers/r", {}, measured
            )
            names = {"teachers": ["brief", "spell"]}
            plan = routing.open_plan(
                store, None, context.plan_sha("persyn"), "persyn", context.prompt_set, router.id, names
            )
            rows = []
            for place in places:
                strengths = STRENGTHS[place]
                # The third prompt's reward is known and speaks for the other teacher.
                chosen = 1 if place == 2 else int(strengths[1] > strengths[0])
                teacher = context.generations[chosen].teacher_id
                margin = abs(strengths[0] - strengths[1])
                rows.append(Assignment(self.prompts[place], teacher, 0, strengths, margin))
            routing.assign(store, None, plan.id, rows)
            return plan.id

    def stage(self, stage: str, progress: dict[str, object], curve: Sequence[float] = ()) -> None:
        """Puts the job into a stage, as a running engine would."""
        with Store.open(self.path) as store:
            lease = jobs.claim(store, self.job, "test")
            jobs.set_stage(store, lease, stage, progress)
            points = [(stage, "hit_at_1", step, value) for step, value in enumerate(curve)]
            jobs.record_metrics(store, lease, points)

    def finish(self) -> None:
        """Ends the job."""
        with Store.open(self.path) as store:
            lease = jobs.claim(store, self.job, "test")
            jobs.set_stage(store, lease, "evaluate", {})
            jobs.release(store, lease, "done")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    run = config.load(file)
    path = tmp_path / "store.db"
    with Store.open(path) as store:
        for model in [*(registry.teacher(c, run.generation) for c in run.teachers), registry.student(run)]:
            stored_models.put(store, model, registry.identity_sha(model))
        prompt_set = prompts.open_set(store, prompt_stage.set_sha(run), run.name)
        splits = ["calibration"] * 4 + ["validation"] * 2 + ["synthesis"] * 2
        members = [
            Prompt(({"role": "user", "content": text},), split=split)  # type: ignore[arg-type]
            for text, split in zip(TEXTS, splits, strict=True)
        ]
        prompts.add(store, None, prompt_set.id, members, 0)
        prompts.finish_set(store, None, prompt_set.id, {})
        numbers = [prompt.id or 0 for _, prompt in prompts.page(store, prompt_set.id)]
        job, _ = jobs.submit(store, run.model_dump(mode="json"), "spec", run.name)
    return Made(path, file, job.id, numbers)


def lines(screen: object, which: str) -> list[str]:
    """The rows of a sheet as they are painted, header first."""
    sheet = screen.query_one(which, Sheet)  # type: ignore[attr-defined]
    return [
        "".join(segment.text for segment in sheet.render_line(y)).rstrip() for y in range(len(sheet.rows) + 1)
    ]


def words(screen: object, which: str) -> str:
    """What a line says."""
    return str(screen.query_one(which, Static).render())  # type: ignore[attr-defined]


async def test_an_empty_store_says_the_next_step(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db"), mode="router") as (app, pilot):
        assert app.screen.state == "empty"
        assert "d runs the demo" in str(app.screen.query_one("#empty", Static).render())
        for key in ("escape", "s", "enter", "slash", "e", "t", "o", "right_square_bracket", "n", "a"):
            await pilot.press(key)
        await until(pilot, lambda: any("no router" in note.message for note in app._notifications))
        assert isinstance(app.screen, RouterScreen)


async def test_each_teacher_has_a_share_and_each_prompt_its_choice(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        await until(pilot, lambda: len(lines(app.screen, "#choices")) == 9)
        # Columns have their width once the layout is done.
        await until(pilot, lambda: "62.5" in lines(app.screen, "#shares")[1])
        await until(pilot, lambda: "[bold]mark" in lines(app.screen, "#choices")[1])
        spell, brief = lines(app.screen, "#shares")[1:]
        assert spell.split()[0] == "spell"
        assert ("5" in spell.split(), "62.5" in spell) == (True, True)
        assert "37.5" in brief
        rows = lines(app.screen, "#choices")[1:]
        assert "spell" in rows[0]
        assert "+0.90" in rows[0]
        assert "[bold]mark" in rows[0]
        assert not any(character in rows[0] for character in "\x1b\x07\u202e")
        assert ("near tie" in rows[1], "near tie" in rows[2]) == (True, False)
        assert "measured" in rows[5]
        assert "▁" in rows[2]
        assert "8 / 8 prompts routed" in words(app.screen, "#where")
        assert "Hit@1 1.00" in words(app.screen, "#where")
        assert "random  .75" in words(app.screen, "#measures")


async def test_80_by_24_keeps_strip_and_footer_and_names_what_is_hidden(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: len(lines(app.screen, "#choices")) == 9)
        await until(pilot, lambda: "hidden: " in words(app.screen, "#title"))
        assert "strength" in words(app.screen, "#title")
        assert app.screen.query_one("MachineStrip").region.bottom == 23
        assert app.screen.query_one("Footer").region.y == 23
        assert app.screen.query_one("#changes").region.bottom <= 22
        assert all(len(row) <= 80 for row in lines(app.screen, "#choices"))


async def test_keys_choose_strategy_order_and_teacher(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        await pilot.press("o")
        await until(pilot, lambda: "smallest margins" in lines(screen, "#choices")[0])
        rows = lines(screen, "#choices")[1:]
        margins = [row.split("+")[1][:4] for row in rows if "measured" not in row]
        assert len(margins) > 4
        assert margins == sorted(margins)
        assert "+" not in "".join(row for row in rows if "measured" in row)  # the router chose otherwise
        await pilot.press("o")
        screen.query_one("#shares", Sheet).focus()
        await pilot.press("j", "enter")
        await until(pilot, lambda: "of brief" in lines(screen, "#choices")[0])
        assert len(lines(screen, "#choices")) == 4
        await pilot.press("escape")
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("strong"))
        assert lines(screen, "#choices")[1:] == []
        assert "gives each prompt a teacher" in str(screen.query_one("#later", Static).render())
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("persyn"))


async def test_alpha_shows_at_once_what_it_would_change(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RouterScreen)
        await until(pilot, lambda: screen.what_if is not None)
        assert "as in the run" in words(screen, "#changes")
        before = made.path.read_bytes()
        for _ in range(12):
            await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.what_if is not None and screen.what_if.alpha == 1.0)
        await until(pilot, lambda: "3 of 5 prompts get another best teacher" in words(screen, "#changes"))
        # Of the two held-out prompts the router's choice was best for both; by learnability for one.
        assert "Hit@1 1.00 → .50" in words(screen, "#changes")
        assert screen.what_if.found.after == (2, 3)
        header = lines(screen, "#shares")[0]
        assert "best 1.00" in header
        assert "60.0 %" in lines(screen, "#shares")[1]
        assert made.path.read_bytes() == before, "looking writes nothing"
        await pilot.press("n")
        await until(pilot, lambda: screen.what_if.normalization == "minmax")
        # Regrets of two units are compared as parts of a random choice's.
        await until(pilot, lambda: "of a random choice's" in words(screen, "#changes"))
        for _ in range(12):
            await pilot.press("left_square_bracket")
        await until(pilot, lambda: "alpha is idle: quality is 0/1" in words(screen, "#changes"))
        slider = screen.query_one(Slider)
        await pilot.click(Slider, offset=(slider.size.width - len(slider.words) - 2, 0))
        await until(pilot, lambda: slider.value == 1.0 and screen.what_if.alpha == 1.0)


async def test_pairs_are_those_that_the_router_learns_from(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    with Store.open(made.path) as store:
        context = made.context(store)
        trained = evidence.gather(context, ("calibration",))
        idle = trained.alpha_is_idle(context.run.reward, context.run.router.targets)
        pairs = int(np.isfinite(trained.labels(context.run.reward).training_rewards).all(axis=1).sum())
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RouterScreen)
        await until(pilot, lambda: screen.what_if is not None)
        assert screen.what_if.found.idle == idle, "what the job's log says"
        assert screen.what_if.found.pairs == pairs
        assert screen.what_if.found.prompts > pairs, "validation prompts have labels, and train nothing"


async def test_a_strategy_without_the_router_shows_none_of_its_measures(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    with Store.open(made.path) as store:
        context = made.context(store)
        plan = routing.open_plan(
            store, None, context.plan_sha("strong"), "strong", context.prompt_set, None, {}
        )
        teacher = context.generations[0].teacher_id
        routing.assign(store, None, plan.id, [Assignment(prompt, teacher) for prompt in made.prompts])
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: "Hit@1" in words(screen, "#where"))
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("strong 8 / 8"))
        assert "Hit@1" not in words(screen, "#where")
        assert "random" not in words(screen, "#measures")
        await pilot.press("o")
        later = screen.query_one("#later", Static)
        await until(pilot, lambda: "chooses without margins" in str(later.render()))


def test_what_oracle_does_is_said_before_it_has_a_plan() -> None:
    data = Routed(
        Question(1, None, None, False), 1, "generate", "running", from_json({}), ("oracle",), "oracle",
        plan=None, total=8, assigned=0, teachers=("brief", "spell"),
    )  # fmt: skip
    assert "every teacher answers all of them" in later(data)


async def test_another_alpha_becomes_a_job_only_after_a_question(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: screen.what_if is not None)
        await pilot.press("a")
        assert not isinstance(app.screen, Confirm)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.what_if.other)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        said = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "α 0.45, zscore" in said
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen)
    with Store.open(made.path) as store:
        assert len(jobs.list(store)) == 1


async def test_scoring_and_training_show_their_progress(made: Made) -> None:
    rows = {"exact_answer": {"done": 6, "total": 12}, "learnability": {"done": 0, "total": 12}}
    progress = {"stage": "score", "unit": "answers", "done": 6, "total": 24, "rate": 3.0, "eta_s": 6.0}
    made.stage("score", {**progress, "rows": rows})
    async with running(made.location, mode="router") as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: "6 / 12" in "".join(lines(screen, "#shares")))
        assert "score 6 / 24 answers   3.0 answers/s   ETA 6s" in words(screen, "#where")
        assert "Prompts stand here once they are routed" in str(screen.query_one("#later", Static).render())
        made.answer()
        progress = {"stage": "train_router", "unit": "steps", "done": 2, "total": 9}
        values = {"hit_at_1": 0.75, "hit_at_3": 1.0, "regret": 0.2}
        made.stage("train_router", {**progress, "values": values}, curve=[0.2, 0.5, 0.75])
        await until(pilot, lambda: "train_router 2 / 9 steps" in words(screen, "#where"))
        assert "Hit@1  .75" in words(screen, "#where")
        (row,) = lines(screen, "#shares")[1:]
        assert ("Hit@1" in row, "▁" in row, row.endswith("0.750")) == (True, True, True)
        made.stage("route", {"stage": "route", "rows": {"persyn": {"done": 3, "total": 8}}})
        made.route(range(3))
        await until(pilot, lambda: "persyn 3 / 8 prompts routed" in words(screen, "#where"))
        await until(pilot, lambda: len(lines(screen, "#choices")) == 4)
        await until(pilot, lambda: "number" in lines(screen, "#choices")[1])
        await pilot.press("p")
        made.route()
        await pilot.press("p")
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        assert screen.chosen.prompt_id == made.prompts[2], "the cursor stays on its prompt"


async def test_export_writes_every_assignment(made: Made) -> None:
    made.answer()
    plan = made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        await until(pilot, lambda: app.screen.data is not None and app.screen.data.plan is not None)
        await pilot.press("e")
        file = made.path.parent / "store.files" / "exports" / f"assignments-persyn-plan-{plan}.jsonl"
        await until(pilot, file.exists)
        found = [json.loads(line) for line in file.read_text().splitlines()]
        assert [row["prompt_id"] for row in found] == made.prompts
        assert found[7]["messages"][0]["content"] == HOSTILE
        assert (found[7]["teacher"], found[0]["strengths"]) == ("spell", {"brief": 1.0, "spell": 0.0})
        assert file.stat().st_mode & 0o077 == 0
        await pilot.press("s")
        await until(pilot, lambda: any("is done" in note.message for note in app._notifications))


async def test_why_shows_what_is_stored_before_the_router_answers_and_esc_goes_back(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        router = app.screen
        await until(pilot, lambda: len(lines(router, "#choices")) == 9)
        for _ in range(5):
            await pilot.press("j")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WhyScreen) and app.screen.state == "full")
        assert "question number 2" in words(app.screen, "#prompt")
        assert "→ spell, by the measured rewards of this prompt; the router: brief" in words(
            app.screen, "#verdict"
        )
        await until(pilot, lambda: "+0.30" in lines(app.screen, "#teachers")[1])
        _, spell = lines(app.screen, "#teachers")[1:]
        assert spell.startswith("★")
        await until(pilot, lambda: "the router reads the prompt" in words(app.screen, "#neighbour"))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is router)
        assert router.chosen.prompt_id == made.prompts[2]


async def test_why_asks_the_real_router_for_a_typed_prompt_without_torch_here(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made.answer()
    made.route()
    made.finish()
    program = f"""
import sys, torch
from engine import config
from engine.progress import from_json
from engine.reader import reader
from engine.router.backbone import load_backbone
from engine.router.model import Router
from engine.router.saved import Labelling, Teacher
from storage.store import Store
with Store.open({made.location!r}) as store:
    context = reader(store, config.load({str(made.file)!r}))
    pairs = zip(context.teachers, context.generations, strict=True)
    made = Router(load_backbone("zoo:student"), [Teacher(t.name, g.generation_sha) for t, g in pairs])
    with torch.no_grad():
        made.head.bias.copy_(torch.tensor([0.0, 1.0]))
    made.save(store.folder / "routers" / "r", Labelling())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    async with running(made.location, mode="router", size=(120, 34)) as (app, pilot):
        await until(pilot, lambda: app.screen.data is not None and app.screen.data.router is not None)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.screen, WhyScreen) and app.focused is not None)
        await pilot.press(*"question 1", "enter")
        screen = app.screen
        await until(pilot, lambda: bool(screen.data and screen.data.nearest))
        assert "→ spell" in words(screen, "#verdict")
        assert "73% to beat brief" in words(screen, "#verdict")
        await until(pilot, lambda: len(lines(screen, "#teachers")) == 3)
        assert "q 1.00" in "".join(lines(screen, "#teachers"))
        await until(pilot, lambda: "answered (ok, 3 tokens)" in words(screen, "#answer"))
        assert "\x1b" not in words(screen, "#answer")
        first = words(screen, "#neighbour")
        assert "nearest 1 of 3: calibration prompt" in first
        await pilot.press("right")
        await until(pilot, lambda: "nearest 2 of 3" in words(screen, "#neighbour"))
        # The process goes on: the second question does not read the router again.
        process = screen._helper._process
        await pilot.press("slash", *"again", "enter")
        await until(pilot, lambda: "again" in words(screen, "#prompt") and bool(screen.data.nearest))
        assert screen._helper._process is process
        # A prompt like none of the calibration's is marked; these are too few to tell, so the reply is told to.
        assert "unlike" not in words(screen, "#verdict")
        screen._found = {**screen._found, "unlike": True}
        screen.ask()
        await until(pilot, lambda: "▲ unlike all it learned from" in words(screen, "#verdict"))
        assert not screen.query_one("#ask", Input).has_focus
        # A process that dies is told, and the next question starts another.
        os.kill(process.pid, signal.SIGSTOP)
        await pilot.press("slash", *"once more", "enter")
        await until(pilot, lambda: "the router reads the prompt" in words(screen, "#neighbour"))
        process.kill()
        await until(pilot, lambda: "✗ the router's process ended" in words(screen, "#neighbour"))
        await pilot.press("slash", *"and now", "enter")
        await until(pilot, lambda: screen._helper._process is not None)
        process = screen._helper._process
    assert await process.wait() != 0, "the app's end is the process's end"


def test_the_reason_is_the_engines_error_with_its_remedy() -> None:
    said = "loading\nerror: routers/r: no head\nin it\n  → train it again\n"
    assert reason(said) == ("routers/r: no head\nin it", "train it again")
    assert reason("Traceback …\nMemoryError") == ("MemoryError", "ask again, or look at screen 7")
    assert reason("")[0] == "the router's process ended"


def test_nothing_of_the_screen_imports_torch() -> None:
    program = (
        "import sys, persyn_tui.app.router.screen, persyn_tui.app.router.why, persyn_tui.app.router.labels\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
