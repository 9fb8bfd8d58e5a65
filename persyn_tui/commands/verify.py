"""`persyn verify`: whether references match answers, before a run is paid for."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.base.errors import ConfigError
from engine.scorers import verify_pairs
from engine.scorers.verify_pairs import Judged, Tally
from persyn_tui.commands.output import JsonOption, emit, say, table, tell

_SHOWN = 60


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="JSONL, a pair a line: verifier, reference, answer; choices or pattern where they belong; "
            "expected (1 or 0) to measure by. `-` reads standard input.",
            show_default=False,
        ),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option("--verifier", help="One pair instead of a file: text, math, choice, regex or json."),
    ] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Its reference answer.")] = None,
    answer: Annotated[str | None, typer.Option("--answer", help="The response to judge.")] = None,
    choices: Annotated[
        list[str] | None, typer.Option("--choice", help="Text of a choice, once for each, the first is A.")
    ] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="Regular expression, for regex.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds that one answer may take, as in a run.", min=0.01)
    ] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Judge answers by their references with the code of a run: right or wrong, what was read, and where.

    Needs no store and no model. Exit codes: 0 every pair could be judged, right or wrong; 2 a line is malformed, or a
    run would refuse its reference; 3 a pair could not be judged (nothing to compare with, the time limit); 130 ctrl+c.
    """
    one = {
        "verifier": verifier,
        "reference": reference,
        "answer": answer,
        "choices": choices or None,
        "pattern": pattern,
    }
    given = {key: value for key, value in one.items() if value is not None}
    if (file is None) == (not given):
        raise ConfigError(
            "nothing to judge" if file is None else "a file and one pair are given",
            "give FILE.jsonl, or --verifier, --reference and --answer",
        )
    statuses: Counter[str] = Counter()
    tallies: dict[str, Tally] = defaultdict(Tally)
    for judged in verify_pairs.judge(_lines(file, given), timeout_s):
        statuses[judged.status if judged.value is None else ("wrong", "right")[int(judged.value)]] += 1
        tallies[judged.verifier].add(judged)
        emit(_record(judged), as_json, lambda judged=judged: _show(judged))  # type: ignore[misc]
    if file is not None:
        _summary(statuses, {name: tally for name, tally in tallies.items() if tally.counts}, as_json)
    if statuses["refused"]:
        raise typer.Exit(2)
    if statuses.total() - statuses["right"] - statuses["wrong"]:
        raise typer.Exit(3)


def _lines(
    file: Path | None, given: Mapping[str, Any]
) -> Iterable[tuple[str, bytes]] | Iterable[tuple[str, Mapping[str, Any]]]:
    return _of_file(file) if file is not None else [("the pair", given)]


def _of_file(file: Path) -> Iterator[tuple[str, bytes]]:
    if str(file) != "-" and not file.is_file():
        raise ConfigError(f"{file}: no such file", "name a JSONL file, or - for standard input")
    with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
        yield from verify_pairs.lines_of(opened, "-" if str(file) == "-" else str(file))


def _record(judged: Judged) -> dict[str, Any]:
    return {key: value for key, value in asdict(judged).items() if value not in (None, "") or key == "value"}


def _show(judged: Judged) -> None:
    if judged.value is None:
        about = f"{judged.why}: {judged.remedy}" if judged.remedy else judged.why
        tell(f"{judged.at}  {judged.status}  {about}")
        return
    word = "right" if judged.value else "wrong"
    odd = "" if judged.expected in (None, judged.value == 1.0) else "  (not as expected)"
    tell(
        f"{judged.at}  {word}  {judged.verifier}: read {_quoted(judged.extracted)}, {judged.why or 'as it stands'}; "
        f"the reference is {_quoted(judged.reference or '')}{odd}"
    )


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= _SHOWN else line[: _SHOWN - 1] + '…'}”"


def _summary(statuses: Counter[str], tallies: Mapping[str, Tally], as_json: bool) -> None:
    say(
        f"{statuses.total():,} pairs: "
        + (", ".join(f"{count:,} {name}" for name, count in sorted(statuses.items())) or "none")
    )
    if not tallies:
        return
    rows = [
        (
            name,
            f"{tally.agreeing[0]:,} of {tally.agreeing[1]:,}",
            _percent(tally.precision),
            _percent(tally.recall),
        )
        for name, tally in sorted(tallies.items())
    ]
    if as_json:
        for name, agreeing, precision, recall in rows:
            say(f"{name or 'refused'}: {agreeing} as expected, precision {precision}, recall {recall}")
    else:
        columns = ("verifier", "as expected", "precision", "recall")
        table(columns, rows, right=columns[1:])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
