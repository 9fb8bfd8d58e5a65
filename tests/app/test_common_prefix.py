"""What a line shows of prompts that begin alike."""

import time

from persyn_tui.app.base.common_prefix import apart

TASK = "State the final answer to the following arithmetic problem: "
SPELL = "Spell this sentence letter by letter, with a space between the letters: "


def test_a_shared_task_sentence_gives_way_to_what_differs() -> None:
    asked = [TASK + "41 - 81 =", TASK + "41 - 18 =", SPELL + "lantern", SPELL + "lamp", TASK + "41 - 81 ="]
    assert apart(asked, 20) == [
        "…problem: 41 - 81 =",
        "…problem: 41 - 18 =",
        "…letters: lantern",
        "…the letters: lamp",
        "…problem: 41 - 81 =",
    ]


def test_what_differs_early_enough_is_shown_from_its_beginning() -> None:
    asked = ["What is 17 + 25?", "What is 17 + 30?"]
    assert apart(asked, 40) == asked
    assert apart([TASK + "1 =", TASK + "2 ="], 140) == [TASK + "1 =", TASK + "2 ="]


def test_one_long_sentence_is_cut_at_a_word_before_the_difference() -> None:
    asked = [
        f"A train leaves the station in the morning with {n} people on board and goes north" for n in (12, 13)
    ]
    assert apart(asked, 20) == [
        "…with 12 people on board and goes north",
        "…with 13 people on board and goes north",
    ]


def test_alone_empty_and_without_spaces() -> None:
    assert apart([], 20) == []
    assert apart([TASK], 20) == [TASK]
    assert apart([TASK, TASK], 20) == [TASK, TASK], "the same prompt twice shares nothing with another"
    assert apart(["", "x" * 50 + "1", "x" * 50 + "2"], 20) == ["", "…xxxxxxxxxx1", "…xxxxxxxxxx2"]


def test_the_end_of_one_may_be_the_beginning_of_another() -> None:
    short, long = TASK + "1 + 1 =", TASK + "1 + 1 = ? Show each step."
    assert apart([short, long], 20) == ["…problem: 1 + 1 =", "…1 + 1 = ? Show each step."]


def test_shared_words_after_the_first_difference_give_way_too() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    asked = [
        f"Determine the exact value of {letters[n]} in the equation {n * 37 + 11}*{letters[n]} + {n * 91} = {n * 7}."
        for n in range(20)
    ]
    for width in (24, 30):
        for n, shown in enumerate(apart(asked, width)):
            assert f"{n * 37 + 11}*{letters[n]}" in shown[: width - 1]
    assert apart(asked, 100) == asked


def test_what_differs_all_along_is_shown_from_the_end_of_what_is_shared() -> None:
    asked = [
        TASK + " ".join(f"{word}{n}" for word in ("one", "two", "three", "four", "five", "six", "seven"))
        for n in range(5)
    ]
    assert apart(asked, 30)[0].startswith("…one0 two0 three0")


def test_a_page_of_prompts_that_begin_alike_takes_no_time() -> None:
    asked = [f"Determine the exact value of {n} in " + f"the equation {n} = " * 60 for n in range(40)]
    took = []
    for _ in range(5):
        began = time.process_time()
        apart(asked, 30)
        took.append(time.process_time() - began)
    assert min(took) < 0.01, "2 ms where nothing else runs"
