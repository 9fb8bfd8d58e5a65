"""Right and wrong answers as models write them: `data/pairs.jsonl`, each with the value that it has.

`v…` are cases that people reported (Math-Verify, open-r1, slime, OpenRLHF, lm-eval, simple-evals), the others are
habits of published models on GSM8K, MATH, MMLU, ARC and tasks in JSON. `persyn verify tests/field/data/pairs.jsonl` has
their precision and recall, `benchmarks/verifiers.py` those of plain math-verify beside them.
"""

import json
import time
from pathlib import Path

import pytest

from engine.sources.references import reference
from engine.verifiers.notation import latex, plain
from engine.verifiers.quantities import read
from engine.verifiers.verify import prepare, stored_with, verify

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "data" / "pairs.jsonl").open(encoding="utf-8")]
HOSTILE = [
    "9", "9,", "1 ", "1/", "\\boxed{", "\\fbox", "{", "}", "\\text{", "\\frac", "$", "$1", "*", "**",
    "** a **", "_", "(", "[", '{"a":', "[[", "```\n", "~~~", "answer is ", "answer: ", "answer ",
    "the answer ", "答案", "####", "#### \n", " ", "\n", "\t", "A", "A ", "(A) ", "not ", "option A ", "A is ",
    "a.", "..", "é", "²", "½", "√", "√(", "√3", "x=", "x = 1, ", "=", ", ", "and ", "or 1 ", "is ", "a is ",
    "-", "– ", "— a", "10^", "×10^", "<answer>", "</answer>", "\\boxed{1} ", "\\boxed{1}, ",
    "\\textcolor{red}{", "\\overline{", "1,000", "1,00", "1.5e9", "I choose ", "I choose A ",
    "so the correct answer to the ", "\\left(", "^{", "twenty-", "because ", "i.e. ", "0.(3)",
    "0x", "1 base ", "a)", "[A", "x_1", "[[", "A:", "A) ", "✅", "15 or ", "from 1 to ", '"answer": "', "0.", "e9",
]  # fmt: skip
"""Each is repeated up to a megabyte."""


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    for kind in ("math", "choice", "text", "json", "regex"):
        prepare(kind)


@pytest.mark.parametrize("pair", PAIRS, ids=[pair["case"] for pair in PAIRS])
def test_a_pair_is_judged_as_it_is(pair: dict) -> None:
    kept, verifier = reference(pair["reference"], pair.get("choices"), pair["verifier"], "pairs")
    found = verify(verifier, kept, pair["answer"])
    assert (found["status"], found["value"]) == ("ok", float(pair["expected"])), found


@pytest.mark.parametrize("part", HOSTILE)
def test_a_megabyte_takes_less_than_a_second(part: str) -> None:
    text = part * (2**20 // len(part))
    for kind, gold in (("choice", "B"), ("text", "Paris"), ("text", "18"), ("json", "[1]")):
        verifier = stored_with(kind, gold, ["red", "blue"] if kind == "choice" else None, "hostile")
        began = time.process_time()
        assert verify(verifier, gold, text)["value"] in (0.0, 1.0)
        assert time.process_time() - began < 1.0, (kind, gold)
    for of in (plain, latex, read):
        began = time.process_time()
        of(text[:20_000])
        assert time.process_time() - began < 1.0, of
