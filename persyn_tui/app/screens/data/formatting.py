"""What the data screen writes: the line above the list, its rows, and the responses to one prompt.

Texts of responses and prompts are those of `response_view.as_json`, harmless to a terminal.
"""

from collections.abc import Callable, Collection
from typing import Any

from rich.text import Text

from engine.base.sanitize import strip_control
from persyn_tui.app.base.formatting import count, signed
from persyn_tui.app.screens.data.query import PromptResponses
from persyn_tui.app.widgets.virtual_table import Cell, Tone, cut
from persyn_tui.views import response_view
from persyn_tui.views.dataset_view import Datasets
from storage.listing import Card, Listing

SCORES = ("quality", "learnability", "reward")
SHOWN_CHARACTERS = 40_000
SHOWN_LINES = 1_000
"""Of one response; `y` copies all of it."""


def in_words(listing: Listing, datasets: Datasets) -> str:
    """The filters of a listing on one line, harmless to a terminal; empty for none."""
    dataset = datasets.get(listing.dataset_id)
    named = {
        "teacher": listing.teacher,
        "status": listing.status,
        "dataset": datasets.name(dataset) if dataset else "",
        "split": listing.split,
    }
    least = {name: getattr(listing, name) for name in SCORES}
    parts = [f'q:"{listing.words}"'] if listing.words else []
    parts += [f"{name} {value}" for name, value in named.items() if value]
    parts += [f"{name} ≥ {value}" for name, value in least.items() if value is not None]
    return strip_control(" · ".join(parts)).replace("\n", " ")


def query_line(
    listing: Listing,
    datasets: Datasets,
    letters: Collection[str] | None = None,
    keyed: Callable[[str], str] = str,
) -> str:
    """Filters, order, and whose rewards these are where the store has several settings; empty for nothing to say.

    `letters` stand behind rewards in the list: None where not all of its rows are known. `keyed` puts the keys that
    work now into a text.
    """
    words = in_words(listing, datasets)
    parts = [f"{words} · " + keyed("{data.back:esc} clears")] if words else []
    if (listing.sort, listing.descending) != ("id", True):
        parts.append(f"by {listing.sort}, {'highest' if listing.descending else 'lowest'} first")
    return " · ".join([*parts, *_rewards(listing, datasets, letters, keyed)])


def _rewards(
    listing: Listing, datasets: Datasets, letters: Collection[str] | None, keyed: Callable[[str], str]
) -> list[str]:
    if datasets.scales < 2 or (letters is not None and not letters):
        return []
    if listing.dataset_id is not None:
        return [_whole(f"reward {datasets.reward_words(listing.dataset_id) or 'none'}")]
    ordered = listing.sort == "reward" or listing.reward is not None
    # Sorted or bounded, rows of different scales are compared: that is said before what the letters stand for.
    several = datasets.scales if letters is None else len(letters)
    one = keyed("({data.filter:f}: one dataset)")
    mixed = f"{several} scales mixed {one}" if ordered and several > 1 else "rewards"
    legend = datasets.legend() if letters is None else datasets.legend(letters)
    return [f"{mixed}: {' · '.join(map(_whole, legend))}"]


def _whole(words: str) -> str:
    """Words that no line break tears apart."""
    return strip_control(words).replace(" ", "\u00a0")


def row_cells(card: Card, datasets: Datasets, shown: Listing) -> list[Cell | str]:
    """A row of the list `shown`, in the order of `response_table.COLUMNS`."""
    tone: Tone = "dim" if card.excluded else "plain"
    good = card.status == "ok"
    # The number first: names are cut at their end.
    within = [datasets.number(card.dataset_id or 0), datasets.within(card.dataset)]
    within += [f"+{card.more_datasets}"] if card.more_datasets else []
    quality = "–" if card.quality is None else f"{card.quality:.2f}"
    # Of a dataset in view all rewards are on its scale, which is said above the list.
    letter = datasets.letter(card.reward_dataset_id) if shown.dataset_id is None else ""
    return [
        Cell(str(card.id), "dim"),
        Cell(card.prompt, tone),
        Cell(card.text, tone if good else "dim"),
        Cell(card.teacher, tone),
        Cell(count(card.tokens), tone),
        Cell(card.finish_reason if good else card.status, "dim" if good else "warn"),
        Cell(quality, tone),
        Cell(signed(card.learnability), tone),
        Cell(f"{signed(card.reward)} {letter}".rstrip(), tone),
        Cell("✗ excluded", "warn") if card.excluded else Cell(" ".join(filter(None, within)), "dim"),
    ]


def prompt_text(prompt: dict[str, Any], width: int, origin_key: str) -> Text:
    """The last turn, in so many lines as there are; the reference answer below it."""
    asked = " ".join(str(prompt["messages"][-1]["content"]).split()) if prompt["messages"] else ""
    room = width * (3 if prompt["answer"] is None else 2) - 4
    text = Text(asked if len(asked) <= room else f"{asked[:room]}… ({origin_key}: all of it)")
    if prompt["answer"] is not None:
        text.append("\nreference ", style="dim")
        text.append(cut(str(prompt["answer"]), max(8, width - 14)).rstrip())
    return text


def head(response: dict[str, Any], data: PromptResponses) -> Text:
    """Teacher and id; scores; how it ended and what it took."""
    quality, learnability = response_view.halves({one["kind"]: one["value"] for one in response["scores"]})
    made_by, status = response["provenance"], response["status"]
    strength = data.strengths.get(made_by["teacher"])
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(made_by["teacher"], style="bold")
    text.append(" ★" if response["id"] == data.starred else "")
    sample = f" · sample {made_by['sample']}" if made_by["sample"] else ""
    text.append("".join([f"  #{response['id']}{sample}", *_apart(response, data)]), style="dim")
    right = "–" if quality is None else f"{quality:.2f}"
    text.append(f"\nq {right} l {signed(learnability)} r {signed(response['reward'])}")
    text.append("" if strength is None else f" s {signed(strength)}")
    if status == "ok":
        text.append(f"\n{response['finish_reason']}", style="dim")
    else:
        text.append(f"\n{status}", style="bold")
    attempts = f" · attempt {made_by['attempts']}" if made_by["attempts"] > 1 else ""
    took = f" · {count(response['completion_tokens'])} tok · {response['latency_s']:.2f} s"
    text.append(took + attempts, style="dim")
    return text


def _apart(response: dict[str, Any], data: PromptResponses) -> list[str]:
    """` · max_tokens 40`: the settings by which it differs from other responses of a teacher of this name."""
    mine = _made_with(response)
    name = response["provenance"]["teacher"]
    others = [_made_with(other) for other in data.responses if other["provenance"]["teacher"] == name]
    return [
        f" · {key} {cut(str(value) or 'none', 20).rstrip()}"
        for key, value in mine.items()
        if any(other.get(key) != value for other in others)
    ]


def _made_with(response: dict[str, Any]) -> dict[str, Any]:
    made_by = response["provenance"]
    return {
        **made_by["sampling"],
        **{key: made_by[key] for key in ("backend", "model", "revision", "system")},
    }


def origin(response: dict[str, Any]) -> Text:
    """Everything about the response: its prompt, scores and rewards, and where it came from."""
    prompt = response["prompt"]
    reference = "none" if prompt["answer"] is None else prompt["answer"]
    parts = {
        f"prompt #{prompt['id']} · {prompt['source']}": [
            *(f"[{message['role']}] {message['content']}" for message in prompt["messages"]),
            f"reference answer: {reference}",
            *([f"checked by: {prompt['verifier']}"] if prompt["verifier"] else []),
        ],
        f"response #{response['id']} · {response['provenance']['teacher']}": [
            f"{response['status']} ({response['finish_reason']}) · {count(response['prompt_tokens'])} + "
            f"{count(response['completion_tokens'])} tok · {response['latency_s']:.2f} s · "
            f"${response['cost']:.6f}",
            *([f"error: {response['error']}"] if response["error"] else []),
            *response_view.score_lines(response),
            response_view.reward_line(response),
        ],
        "provenance": response_view.origin_lines(response),
    }
    text = Text()
    for head, lines in parts.items():
        text.append(f"{head}\n", style="bold")
        text.append("".join(f"  {line}\n" for line in lines))
    return text


def body(response: dict[str, Any]) -> Text:
    """Its reasoning, error and text."""
    text = Text()
    if response["reasoning"]:
        reasoning, more = _beginning(response["reasoning"])
        text.append(f"reasoning\n{reasoning}{more}\n\nresponse\n", style="dim")
    if response["error"]:
        text.append(response["error"], style="bold")
    body, more = _beginning(response["text"])
    text.append(body or ("" if response["error"] else "(no text)"))
    text.append(more, style="dim")
    return text


def _beginning(whole: str) -> tuple[str, str]:
    """(what is shown of a text, a line that says how much more there is): a long one would take seconds to lay out."""
    shown = "\n".join(whole[:SHOWN_CHARACTERS].split("\n", SHOWN_LINES)[:SHOWN_LINES])
    left = len(whole) - len(shown)
    return shown, f"\n… {count(left)} more characters; y copies all" if left else ""
