"""JSON on a terminal: nothing in it acts, and it says the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from engine.base.sanitize import json_line, strip_control
from persyn_tui import cli
from persyn_tui.commands import output

HARMFUL = [chr(code) for code in (0x00, 0x1B, 0x7F, 0x85, 0x9B, 0x61C, 0x200E, 0x200F, 0xD800, 0xDFFF)]
HARMFUL += [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xAD, 0xE0041)]


@pytest.mark.parametrize("character", HARMFUL, ids=ascii)
def test_json_escapes_what_acts_on_a_terminal_and_keeps_its_value(character):
    data = {f"key {character}": [f"é 漢 😀 {character}x"]}
    line = json_line(data)
    assert character not in line
    assert "é 漢 😀" in line
    assert json.loads(line) == data
    assert character not in strip_control(f"a{character}")


def test_a_lone_surrogate_can_be_printed_by_a_command():
    program = (
        "from persyn_tui.commands.output import emit; emit({'text': '\\ud800 \\x9b31m'}, True, lambda: None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b'{"text": "\\ud800 \\u009b31m"}\n'


def test_messages_are_harmless_on_both_streams(capsys):
    output.say("error: unknown key `\x1b]0;owned\x07`")
    output.tell("17 rows of `\x1b[31mrun/persyn`")
    out, err = capsys.readouterr()
    assert (out, err) == ("17 rows of `�[31mrun/persyn`\n", "error: unknown key `�]0;owned�`\n")


def test_an_error_that_quotes_a_run_file_is_harmless(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text('"\\e]0;owned\\a": 1\n')
    done = subprocess.run(
        [sys.executable, "-m", "persyn_tui.cli", "run", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown key `�]0;owned�`" in done.stderr


def test_which_commands_have_no_json_or_store_is_as_readme_says():
    def without(option: str, command: Any, name: str) -> Iterator[str]:
        for inner, other in getattr(command, "commands", {}).items():
            yield from without(option, other, f"{name} {inner}")
        if not hasattr(command, "commands") and all(option not in one.opts for one in command.params):
            yield name.split()[0]

    def all_without(option: str) -> set[str]:
        return {found for name in cli.COMMANDS for found in without(option, cli._load(name), name)}

    assert all_without("--json") == {"schema", "serve"}
    assert all_without("--store") == {"schema", "verify", "zoo"}
