"""What a thinking model wrote before its answer: kept apart from it, and shown where the run file says so."""

from storage.records import Dataset, TrainingRow


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer): what a thinking model wrote up to `</think>`, and the rest."""
    before, mark, after = text.rpartition("</think>")
    if mark:
        return before.strip().removeprefix("<think>").strip(), after.lstrip()
    if text.lstrip().startswith("<think>"):
        return text.lstrip().removeprefix("<think>").strip(), ""
    return "", text


def with_reasoning(reasoning: str, answer: str) -> str:
    """The answer after what was thought before it, marked as thinking models do; `answer` where nothing was."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def target(dataset: Dataset, row: TrainingRow) -> str:
    """What a student learns to say: a row's answer, its reasoning before it where the dataset was built with it."""
    if dataset.manifest.get("reasoning"):
        return with_reasoning(row.response.reasoning, row.response.text)
    return row.response.text
