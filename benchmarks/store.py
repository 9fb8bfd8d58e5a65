"""How fast the store takes responses in and gives them back.

Goals (docs/design): at least 50,000 responses/s in, a page of a million rows within 10 ms, a search within
50 ms. Beside the first stands what the bare driver does with the same rows, batches and durability: the
difference is what SQLAlchemy, the unique key, the indexes and the checks of foreign keys cost.

    python benchmarks/store.py [--rows 1000000] [--store URL] [--json]
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage import browse, listing, prompts, registry, responses, routing, score_matrix, scores, search
from storage.listing import Listing
from storage.records import Assignment, Generation, Model, NewPlan, NewResponse, Prompt, Response, Score
from storage.responses import Wanted
from storage.scores import Scored
from storage.store import Store, sqlite_driver

BATCH = 500
TEACHERS = 19
WORDS = 20_000
"""Size of the vocabulary that texts are drawn from, with Zipf's frequencies."""


def vocabulary() -> tuple[list[str], list[float]]:
    letters = random.Random(1)
    words = [
        "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=letters.randint(3, 9))) for _ in range(WORDS)
    ]
    return words, [1 / (rank + 10) for rank in range(WORDS)]


def texts(count: int) -> list[str]:
    """Texts of about a kilobyte."""
    words, weights = vocabulary()
    draw = random.Random(2)
    return [" ".join(draw.choices(words, weights, k=145)) for _ in range(count)]


def fill_prompts(store: Store, count: int) -> tuple[int, list[int]]:
    made = prompts.open_set(store, "bench", "bench")
    for start in range(0, count, BATCH):
        part = [
            Prompt([{"role": "user", "content": f"Question {number}"}], str(number), split="calibration")
            for number in range(start, min(count, start + BATCH))
        ]
        prompts.add(store, None, made.id, part, start)
    return made.id, [item.id or 0 for item in prompts.iterate(store, made.id, size=5000)]


def batches(
    ids: list[int], generations: list[Generation], bodies: list[str], rows: int
) -> Iterator[list[NewResponse]]:
    """Rows teacher by teacher, as calibration stores them; one in a thousand is an error."""
    part: list[NewResponse] = []
    for number in range(rows):
        who = generations[number // len(ids)]
        broken = number % 1000 == 7
        completion = Response(
            key=number,
            text="" if broken else bodies[number % len(bodies)],
            status="error" if broken else "ok",
            finish_reason="error" if broken else "stop",
            prompt_tokens=20,
            completion_tokens=180,
            latency_s=1.5,
            error="timeout" if broken else "",
        )
        part.append(
            NewResponse(ids[number % len(ids)], who.teacher_id, who.generation_sha, completion, 0.001)
        )
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


def bare_driver(folder: Path, bodies: list[str], rows: int) -> float:
    """Rows a second of the driver alone: one table with its unique key, WAL, synchronous=FULL, the same batches."""
    connection = sqlite_driver().connect(str(folder / "bare.db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE r (id INTEGER PRIMARY KEY, p INTEGER, t INTEGER, s INTEGER, g TEXT, text TEXT, status TEXT,"
        " a INTEGER, b INTEGER, c REAL, d REAL, e REAL, UNIQUE (p, t, s, g))"
    )
    statement = "INSERT INTO r (p, t, s, g, text, status, a, b, c, d, e) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
    begun = time.perf_counter()
    for start in range(0, rows, BATCH):
        part = [
            (number, 1, 0, "g" * 64, bodies[number % len(bodies)], "ok", 20, 180, 1.5, 0.001, 1.0)
            for number in range(start, start + BATCH)
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, part)
        connection.execute("COMMIT")
    rate = rows / (time.perf_counter() - begun)
    connection.close()
    return rate


def milliseconds(call: Callable[[], Any], repeats: int = 15) -> dict[str, float]:
    """Median and worst of several calls, the first one included."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1000)
    return {"median_ms": round(statistics.median(taken), 2), "worst_ms": round(max(taken), 2)}


def bench(store: Store, folder: Path, rows: int) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": rows, "database": store.engine.dialect.name}
    bodies = texts(5000)
    found["bytes_per_text"] = round(statistics.mean(map(len, bodies)))
    count = -(-rows // TEACHERS)
    begun = time.perf_counter()
    set_id, ids = fill_prompts(store, count)
    found["prompts_per_s_in"] = round(count / (time.perf_counter() - begun))
    generations = []
    for number in range(TEACHERS):
        model = registry.put(store, Model(f"teacher-{number}", "teacher", "x", "m"), f"identity-{number}")
        generations.append(Generation(model.id or 0, f"{number:064x}"))

    stored = 0
    spent = busy = 0.0
    first: float | None = None
    for part in batches(ids, generations, bodies, rows):
        begun, processor = time.perf_counter(), time.process_time()
        stored += responses.add(store, None, part)
        spent += time.perf_counter() - begun
        busy += time.process_time() - processor
        if first is None and stored >= 100_000:
            first = stored / spent
    found["responses_per_s_in"] = round(stored / spent)
    # The same without the waits for the disk and for other programs: what one core can do.
    found["responses_per_cpu_s_in"] = round(stored / busy)
    found["responses_per_s_in_first_100k"] = round(first) if first else None
    if store.is_sqlite:
        bare = bare_driver(folder, bodies, min(rows, 100_000))
        found["bare_driver_per_s"] = round(bare)
        found["ratio_to_bare_driver"] = round((first or stored / spent) / bare, 2)

    middle, end = rows // 2, rows - 100
    ascending = Listing(descending=False)
    found["page"] = {
        "first": milliseconds(lambda: browse.browse(store, ascending, limit=50)),
        "middle": milliseconds(lambda: browse.browse(store, ascending, middle, 50)),
        "newest": milliseconds(lambda: browse.browse(store, Listing(), limit=50)),
        "teacher": milliseconds(
            lambda: browse.browse(store, replace(ascending, teacher="teacher-11"), limit=50)
        ),
        "errors": milliseconds(lambda: browse.browse(store, replace(ascending, status="error"), middle, 50)),
        "prompt set": milliseconds(
            lambda: browse.browse(store, replace(ascending, prompt_set_id=set_id), end)
        ),
        "one response": milliseconds(lambda: browse.get(store, middle)),
        "pending, all but the last answered": milliseconds(
            lambda: responses.pending(store, Wanted(set_id, ("calibration",), generations[-1]))
        ),
    }
    scorer = scores.put_scorer(store, "bench", {})
    scored = Scored(scorer, generations, set_id, ("calibration",))
    begun = time.perf_counter()
    batch = scores.pending(store, scored, limit=5000)
    found["scorable_per_s_out"] = round(len(batch) / (time.perf_counter() - begun))
    begun = time.perf_counter()
    scores.add(store, None, scorer, [(item.response_id, Score(-0.5, -50.0, 100)) for item in batch])
    found["scores_per_s_in"] = round(len(batch) / (time.perf_counter() - begun))
    begun = time.perf_counter()
    cells = score_matrix.matrix(store, scored).values.size
    found["matrix_cells_per_s"] = round(cells / (time.perf_counter() - begun))
    plan = routing.open_plan(store, None, NewPlan("bench", "persyn", set_id, None, {}))
    for start in range(0, len(ids), 5000):
        part_ids = ids[start : start + 5000]
        rows_in = [
            Assignment(item, generations[item % TEACHERS].teacher_id, 0, (0.5,) * TEACHERS)
            for item in part_ids
        ]
        routing.assign(store, None, plan.id, rows_in)
    found["whole_set"] = {
        "counts": milliseconds(lambda: responses.counts(store, generations, set_id), 1),
        "count_pending": milliseconds(
            lambda: responses.count_pending(store, Wanted(set_id, None, generations[0])), 1
        ),
        "generations_used": milliseconds(
            lambda: routing.generations_used(store, plan.id, generations, calibration=False, full=False), 1
        ),
        "failed": milliseconds(lambda: routing.failed(store, plan.id, generations, max_attempt=3), 1),
        "pending_assigned": milliseconds(
            lambda: responses.pending_assigned(store, [plan.id], generations[0]), 1
        ),
    }

    begun = time.perf_counter()
    while search.sync(store):
        pass
    found["indexed_per_s"] = round(rows / (time.perf_counter() - begun))
    words, _ = vocabulary()
    found["search"] = {
        "common word": milliseconds(lambda: search.search(store, words[0])),
        "rare word": milliseconds(lambda: search.search(store, words[-1])),
        "two common words": milliseconds(lambda: search.search(store, f"{words[0]} {words[1]}")),
        "word of every prompt": milliseconds(lambda: search.search(store, "question")),
        "word of one prompt": milliseconds(lambda: search.search(store, str(count - 1))),
        "no such word": milliseconds(lambda: search.search(store, "zzzzzzzzzzzz")),
        "page by words": milliseconds(lambda: browse.browse(store, Listing(words=words[-1]))),
        "first of a list by words": milliseconds(
            lambda: next(listing.stream(store, Listing(words="question")))
        ),
    }
    if store.path is not None:
        found["bytes_per_row"] = round(store.path.stat().st_size / rows)
        begun = time.perf_counter()
        Store.open(store.path).close()
        found["open_ms"] = round((time.perf_counter() - begun) * 1000, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--store", help="URL of an empty PostgreSQL database; a temporary SQLite file without it"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(options.store or folder / "bench.db") as store:
            found = bench(store, folder, options.rows)
    json.dump(found, sys.stdout, indent=None if options.json else 2)
    print()


if __name__ == "__main__":
    main()
