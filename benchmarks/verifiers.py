"""How right the verifiers are beside plain math-verify, and how many answers they judge a second.

Precision and recall are over `tests/field/data/pairs.jsonl`, of which it is known which are right. Plain math-verify
parses the reference in a box and the answer as it stands, and verifies with its own settings; choices, words and JSON
are none of its business, so it stands beside `math` alone. Speed is through the worker process, as in a run, on the
published answers of `examples/fetch_published.py`, each of which is judged as `math` and as `text`.

    python benchmarks/verifiers.py [DATA] [--pairs FILE] [--json]
"""

import argparse
import json
import logging
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from _published import rows

from engine.scorers import verify_pairs
from engine.scorers.verify_pairs import Judged, Tally
from engine.scorers.verify_process import Worker

PAIRS = Path(__file__).parents[1] / "tests" / "field" / "data" / "pairs.jsonl"
TIMEOUT_S = 10.0


def plain_math_verify(pair: dict[str, Any]) -> float:
    """1.0 where math-verify alone holds the answer for right."""
    from math_verify import parse, verify

    try:
        return float(verify(parse(f"\\boxed{{{pair['reference']}}}"), parse(pair["answer"])))
    except Exception:
        return 0.0


def rightness(path: Path) -> dict[str, Tally]:
    """Tallies by verifier, and of plain math-verify on the pairs of `math`."""
    with path.open("rb") as file:
        lines = [line for line in file if line.strip()]
    tallies: dict[str, Tally] = defaultdict(Tally)
    numbered = ((f"{path}:{number}", line) for number, line in enumerate(lines, 1))
    for judged, line in zip(verify_pairs.judge(numbered, TIMEOUT_S), lines, strict=True):
        tallies[judged.verifier].add(judged)
        if judged.verifier == "math":
            value = plain_math_verify(json.loads(line))
            tallies["plain math-verify"].add(Judged(judged.at, "ok", value, expected=judged.expected))
    return tallies


def speed(place: str) -> dict[str, float]:
    """Verdicts a second by verifier; none without the published answers."""
    answers = rows(place, "gsm8k_parallel.jsonl.gz", "gsm8k-parallel.jsonl.gz")
    found = {}
    for kind in ("math", "text") if answers else ():
        with closing(Worker(TIMEOUT_S)) as worker:
            worker.judge({"kind": kind}, "1", "1")
            began = time.perf_counter()
            for row in answers:
                worker.judge({"kind": kind}, row["answer"], row["response"])
            found[kind] = len(answers) / (time.perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", default="", help="folder or file of the published answers")
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    tallies, speeds = rightness(options.pairs), speed(options.data)
    if options.json:
        shown = {
            name: {"precision": tally.precision, "recall": tally.recall, "pairs": tally.agreeing[1]}
            for name, tally in tallies.items()
        }
        print(json.dumps({"rightness": shown, "verdicts_per_s": speeds}))
        return
    for name, tally in sorted(tallies.items()):
        right, pairs = tally.agreeing
        shares = f"precision {tally.precision or 0:6.1%}   recall {tally.recall or 0:6.1%}"
        print(f"{name:18} {right:4} of {pairs:4} pairs   {shares}")
    for kind, per_s in speeds.items():
        print(f"{kind:18} {per_s:8,.0f} verdicts/s")


if __name__ == "__main__":
    main()
