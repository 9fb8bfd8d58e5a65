"""The line above the list: which answers, in which order, and what their rewards were made with."""

from collections.abc import Callable, Collection

from engine.base.sanitize import strip_control
from persyn_tui.views.dataset_view import Datasets
from storage.listing import Listing

SCORES = ("quality", "learnability", "reward")


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

    Args:
        listing: what is listed.
        datasets: of the store.
        letters: those that stand behind rewards in the list; None where not all of its rows are known.
        keyed: puts the keys that work now into a text.
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
