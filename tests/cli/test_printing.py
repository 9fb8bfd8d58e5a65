"""JSON on a terminal: nothing in it acts, and it says the same."""

import json
import subprocess
import sys

import pytest

from engine.printing import json_line, printable

HARMFUL = [chr(code) for code in (0x00, 0x1B, 0x7F, 0x85, 0x9B, 0x61C, 0x200E, 0x200F, 0xD800, 0xDFFF)]
HARMFUL += [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]


@pytest.mark.parametrize("character", HARMFUL, ids=ascii)
def test_json_escapes_what_acts_on_a_terminal_and_keeps_its_value(character):
    data = {f"key {character}": [f"é 漢 😀 {character}x"]}
    line = json_line(data)
    assert character not in line
    assert "é 漢 😀" in line
    assert json.loads(line) == data
    assert character not in printable(f"a{character}")


def test_a_lone_surrogate_can_be_printed_by_a_command():
    program = "from persyn_tui.output import emit; emit({'text': '\\ud800 \\x9b31m'}, True, lambda: None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b'{"text": "\\ud800 \\u009b31m"}\n'
