"""Finding prompts that no model could read, with tokenizers alone: no model is loaded for it."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import teacher_kind
from engine.config.models import ModelConfig
from engine.config.run_file import Run
from engine.models import model_info as models
from engine.models import text_size
from storage.records import Prompt


class Checker:
    """Refuses prompts that fill the context of a teacher or of the student.

    A token is at least one byte of text in every tokenizer used here, so only prompts with more bytes than the
    smallest context are tokenized at all: a run over 200,000 ordinary prompts pays nothing.
    """

    def __init__(self, run: Run) -> None:
        self._limits: list[tuple[str, str, int]] = []
        if run.too_long == "refuse":
            local: list[tuple[str, ModelConfig]] = [
                (f"teachers: {teacher.name}", teacher)
                for teacher in run.teachers
                if teacher_kind(teacher.backend).local_files
            ]
            for label, config in [*local, (f"student: {run.student.name}", run.student)]:
                found = models.check(config.model, revision=config.revision, chat_template=False)
                context = config.context or found.context
                if context is not None and found.folder is not None and not found.file:
                    self._limits.append((label, found.folder, context))
        self._smallest = min((context for _, _, context in self._limits), default=None)

    def check(self, where: str, prompt: Prompt) -> None:
        """Raises ConfigError when the prompt leaves no room for a response in some model's context."""
        text = text_size.words_of(prompt.messages)
        if self._smallest is None or len(text.encode("utf-8", "replace")) < self._smallest:
            return
        for label, folder, context in self._limits:
            tokens = text_size.tokens_of(text, context, partial(_count, folder))
            least = "at least " if len(text) > text_size.SLICE else ""
            those = f"{least}{tokens:,} tokens"
            if tokens >= context:
                raise ConfigError(
                    f"prompts: {where}: {those} do not fit the context of {label} ({context:,} tokens, "
                    "prompt and response together)",
                    "shorten or remove the prompt, raise that model's `context`, or set `too_long: mark` to store "
                    "it as too_long and go on with the rest",
                )


def _count(folder: str, text: str) -> int:
    if (tokenizer := _tokenizer(folder)) is None:
        return 0  # a slow tokenizer: the backend counts exactly and marks the row
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=8)
def _tokenizer(folder: str) -> Any:
    from tokenizers import Tokenizer

    path = Path(folder) / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None
