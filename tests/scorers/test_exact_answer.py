"""The exact_answer scorer with its real worker process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pytest
import reasoning_gym

from engine.base.errors import ConfigError
from engine.scorers.kinds import exact_answer
from engine.scorers.scorer_kinds import score_all
from storage.records import Prompt


@pytest.fixture(scope="module")
def scorer():
    made = exact_answer.create({"timeout_s": 20.0})
    yield made
    made.close()


def prompt(kind: str, answer: str | None = None, **more) -> Prompt:
    return Prompt(messages=[{"role": "user", "content": "?"}], answer=answer, verifier={"kind": kind, **more})


def value_of(scorer, asked: Prompt, text: str):
    (verdict,) = score_all(scorer, [(asked, text)])
    return verdict.value if verdict.status == "ok" else verdict.status


def gym(task: str, index: int = 0, **options) -> dict:
    """An entry as it comes back from the store."""
    entry = reasoning_gym.create_dataset(task, size=index + 1, seed=3, **options)[index]
    return json.loads(json.dumps(entry))


ZOO_TASKS = ["spell_backward", "word_sequence_reversal", "gcd", "chain_sum", "simple_equations"]
REAL_TASKS = ["gsm_symbolic", "letter_counting", "countdown"]


@pytest.mark.parametrize("task", ZOO_TASKS + REAL_TASKS)
def test_reasoning_gym_tasks_judge_themselves(scorer, task: str) -> None:
    entry = gym(task)
    asked = prompt("reasoning_gym", task=task, entry=entry)
    right = entry["answer"]
    for text in (right, f"The answer is {right}.", f"Let me think. 1 + 1 = 2.\n\n<answer>{right}</answer>"):
        assert value_of(scorer, asked, text) == 1.0, text
    assert value_of(scorer, asked, "The answer is zebra.") == 0.0


def test_partial_credit_of_a_task_is_not_an_exact_answer(scorer) -> None:
    entry = gym("chain_sum")
    asked = prompt("reasoning_gym", task="chain_sum", entry=entry)
    (verdict,) = score_all(scorer, [(asked, f"The answer is {entry['answer']} or so.")])
    assert verdict.value == 1.0  # numeric: the number counts
    words = gym("word_sequence_reversal")
    (verdict,) = score_all(
        scorer,
        [(prompt("reasoning_gym", task="word_sequence_reversal", entry=words), words["answer"] + ", more")],
    )
    assert verdict.value == 0.0


def test_entries_that_json_broke_are_not_judged(scorer) -> None:
    entry = gym("rearc")
    assert (
        value_of(scorer, prompt("reasoning_gym", task="rearc", entry=entry), entry["answer"])
        == "unverifiable"
    )


@pytest.mark.parametrize(
    ("gold", "text", "value"),
    [
        ("1/2", r"So we get \boxed{\frac{1}{2}}.", 1.0),
        ("1/2", "The answer is 0.5", 1.0),
        ("1/2", "#### 2", 0.0),
        (r"x^2 + 2x + 1", r"\boxed{(x+1)^2}", 1.0),
        ("42", "6 times 7 is $42$", 1.0),
        ("42", "I do not know", 0.0),
        ("42", "", 0.0),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", 1.0),
        (r"\sin x", r"\boxed{\sin{x}}", 1.0),
        ("wodniw", "wodniw", 1.0),
        ("wodniw", "window", 0.0),  # as products of letters they are equal
        ("wodniw", "The answer is **wodniw**.", 1.0),
        (r"\text{east}", "So it is east, and the answer is East.", 1.0),
        ("east", r"\boxed{\text{east}}", 1.0),
        ("5 apples", "5 apples", 1.0),
    ],
)
def test_math(scorer, gold: str, text: str, value: float) -> None:
    assert value_of(scorer, prompt("math", gold), text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("B", 1.0),
        ("(B) because", 1.0),
        ("The answer is B.", 1.0),
        ("I think that option b is right", 1.0),
        ("Green", 1.0),
        ("The answer is A, not (B)", 0.0),
        ("C: blue", 0.0),
        ("Because", 0.0),
        ("B. Because A is red and C is blue", 1.0),
        ("B, C", 0.0),
        ("The answer is B or C.", 0.0),
        ("(B) and (C)", 0.0),
        ("Either option A or option B", 0.0),
        ("", 0.0),
    ],
)
def test_choice(scorer, text: str, value: float) -> None:
    assert value_of(scorer, prompt("choice", "B", choices=["red", "green", "blue"]), text) == value


def test_regex_json_and_text(scorer) -> None:
    assert value_of(scorer, prompt("regex", pattern=r"^\d{3}-\d{2}$"), "123-45") == 1.0
    assert value_of(scorer, prompt("regex", pattern=r"^\d{3}-\d{2}$"), "123-4x") == 0.0
    fenced = 'Here it is:\n```json\n{"b": [1, 2.0], "a": true}\n```'
    assert value_of(scorer, prompt("json", '{"a": true, "b": [1, 2]}'), fenced) == 1.0
    assert value_of(scorer, prompt("json", '{"a": 1}'), '{"a": true}') == 0.0
    assert value_of(scorer, prompt("json", value={"a": 1}), "{broken") == 0.0
    assert value_of(scorer, prompt("json", '{"a": 1}'), '{"a": 2, "a": 1}') == 0.0
    assert value_of(scorer, prompt("json", "[1]"), "[1] and more") == 0.0
    assert value_of(scorer, prompt("json", "[1]"), "[NaN]") == 0.0
    assert value_of(scorer, prompt("text", "New  York"), 'The answer is "new york".') == 1.0
    assert value_of(scorer, prompt("text", "1,042"), "That makes 1042 apples") == 1.0
    assert value_of(scorer, prompt("text", "Paris"), "London") == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        Prompt(messages=[], answer="1"),
        prompt("nonsense", "1"),
        prompt("text"),
        prompt("regex"),
        prompt("choice", "2", choices=["red", "green"]),
        prompt("regex", pattern="("),
        prompt("json", "{broken"),
        prompt("reasoning_gym", task="chain_sum"),
        prompt("reasoning_gym", task="no_such_task", entry={"answer": "1"}),
    ],
)
def test_verifiers_that_cannot_be_used_give_a_reason(scorer, asked: Prompt) -> None:
    (verdict,) = score_all(scorer, [(asked, "1")])
    assert (verdict.status, verdict.value) == ("unverifiable", None)
    assert verdict.detail["reason"]


@pytest.mark.parametrize("text", ["\ud800", "x" * 100_000, "\n" * 100_000, "\x00\x1b[31m", "((" * 5_000])
@pytest.mark.parametrize("kind", ["math", "text", "choice", "json"])
def test_hostile_texts_are_wrong_answers(scorer, kind: str, text: str) -> None:
    gold = "B" if kind == "choice" else "1"
    assert value_of(scorer, prompt(kind, gold), text) in (0.0, "timeout")


def test_hung_verifier_times_out_and_the_next_answer_is_judged() -> None:
    scorer = exact_answer.create({"timeout_s": 0.5})
    stuck = prompt("regex", pattern=r"^(a+)+$")  # exponential, and it never lets another thread run
    try:
        found = score_all(
            scorer, [(prompt("text", "x"), "x"), (stuck, "a" * 60 + "b"), (prompt("text", "x"), "x")]
        )
    finally:
        scorer.close()
    assert [verdict.status for verdict in found] == ["ok", "timeout", "ok"]
    assert found[1].value is None


def test_a_worker_that_stands_still_times_out_too() -> None:
    # It uses no processor time, so only the parent's clock ends it.
    with closing(exact_answer.create({"timeout_s": 0.5})) as scorer:
        assert value_of(scorer, prompt("text", "x"), "x") == 1.0
        os.kill(scorer._worker.pid, signal.SIGSTOP)
        assert value_of(scorer, prompt("text", "x"), "x") == "timeout"
        assert value_of(scorer, prompt("text", "x"), "x") == 1.0


def test_works_off_the_main_thread_and_reuses_one_process(scorer) -> None:
    results, pids = [], set()

    def work() -> None:
        results.append(value_of(scorer, prompt("math", "1/2"), r"\boxed{\frac{2}{4}}"))
        pids.add(scorer._worker.pid)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1.0] * 4
    assert len(pids) == 1


def test_a_killed_worker_is_an_error_verdict_and_then_replaced(scorer) -> None:
    assert value_of(scorer, prompt("text", "x"), "x") == 1.0
    os.kill(scorer._worker.pid, signal.SIGKILL)
    psutil.Process(scorer._worker.pid).wait(10)
    assert value_of(scorer, prompt("text", "x"), "x") == "error"
    assert value_of(scorer, prompt("text", "x"), "x") == 1.0


PARENT = """
from engine.scorers.kinds import exact_answer
from engine.scorers.scorer_kinds import score_all
from storage.records import Prompt
import threading, time
scorer = exact_answer.create({"timeout_s": %s})
ask = lambda kind, answer, **more: score_all(scorer, [(Prompt([], answer, {"kind": kind, **more}), "a" * 60 + "b")])
ask("text", "x")
print(scorer._worker.pid, flush=True)
%s
time.sleep(600)
"""


@pytest.mark.parametrize("busy", ["", 'ask("regex", None, pattern="^(a+)+$")'], ids=["idle", "hung"])
def test_no_orphan_when_the_parent_is_killed(busy: str) -> None:
    code = PARENT % (1.0 if not busy else 2.0, busy)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    worker = psutil.Process(int(parent.stdout.readline()))
    if busy:
        before = worker.cpu_times().user
        deadline = time.monotonic() + 20
        while worker.cpu_times().user < before + 0.3 and time.monotonic() < deadline:
            time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone


def test_close_ends_the_worker_and_may_be_called_twice() -> None:
    scorer = exact_answer.create({})
    score_all(scorer, [(prompt("text", "x"), "x")])
    worker = psutil.Process(scorer._worker.pid)
    scorer.close()
    scorer.close()
    assert not worker.is_running()
    assert score_all(scorer, []) == []


def test_each_score_is_given_before_the_next_answer_is_judged(scorer) -> None:
    items = [(prompt("text", str(n)), str(n % 2)) for n in range(4)]
    found = scorer.scores(items)
    assert (next(found)[0], next(found)[0]) == (0, 1)
    scorer.close()  # as a stop does between two
    assert [score.value for _, score in found] == [0.0, 0.0]


def test_settings_and_identity() -> None:
    assert exact_answer.identity({}) == exact_answer.identity({"timeout_s": 10.0})
    assert exact_answer.identity({}) != exact_answer.identity({"timeout_s": 1.0})
    with pytest.raises(ConfigError, match="timeout_s: Input should be greater than 0"):
        exact_answer.create({"timeout_s": 0})
    with pytest.raises(ConfigError, match="timeout_s"):
        exact_answer.create({"timeout": 3})
