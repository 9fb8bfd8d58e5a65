"""`python -m engine doctor [FILE]`: this machine, and every model of a run file, tried for real.

Each finding is `ok`, `warning` or `failed`, with what to do about it; any `failed` ends with exit code 2.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from engine.base.sanitize import json_line, strip_control
from engine.registry import run_files
from engine.tools import check_machine, check_models
from engine.tools.findings import Finding

MARKS = {"ok": ("✓", "green"), "warning": ("▲", "yellow"), "failed": ("✗", "red")}


def main(options: argparse.Namespace) -> int:
    """Exit code 0 when nothing failed, else 2; findings are printed as they come."""
    console = Console(highlight=False, soft_wrap=True)
    found: list[Finding] = []
    for finding in _everything(options.run_file):
        found.append(finding)
        if not options.json:
            _show(console, finding)
    failed = sum(finding.state == "failed" for finding in found)
    if options.json:
        print(json_line({"ok": not failed, "findings": [asdict(finding) for finding in found]}))
    else:
        console.print(
            Text(f"{failed} of {len(found)} checks failed" if failed else f"all {len(found)} checks passed")
        )
    return 2 if failed else 0


def _everything(run_file: str | None) -> Iterator[Finding]:
    yield from check_machine.findings()
    if run_file is not None:
        yield from check_models.findings(run_files.load(run_file))


def _show(console: Console, finding: Finding) -> None:
    mark, style = MARKS[finding.state]
    line = Text.assemble((mark, style), f" {finding.about}: {strip_control(finding.message)}")
    console.print(line)
    if finding.remedy:
        console.print(Text(f"  → {strip_control(finding.remedy)}"))
    if finding.mask:
        # The colour is not the only sign: what is trained on also stands in brackets.
        shown = Text("  ")
        inside = False
        for token, trained in finding.mask:
            if trained != inside:
                shown.append("⟦" if trained else "⟧", style="bold green" if trained else "dim")
                inside = trained
            shown.append(strip_control(token).replace("\n", "⏎"), style="bold green" if trained else "dim")
        if inside:
            shown.append("⟧", style="bold green")
        console.print(shown)
