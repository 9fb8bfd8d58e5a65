"""A plan's assignments as a file: which teacher answers which prompt, and what the router said of each."""

import json
import os
from pathlib import Path

from engine.base.errors import ConfigError
from engine.job.plan_store import assignment_pages
from storage import prompts, registry
from storage.records import Plan
from storage.store import Store


def export(store: Store, plan: Plan, out: Path | None = None) -> tuple[Path, int]:
    """(the file, 0600; how many lines it has): JSONL, a line per assignment in order of prompt id.

    Args:
        store: the plan's store.
        plan: as far as it has come.
        out: a file, overwritten whole or not at all; None for `exports/` in the store's folder.

    Raises:
        ConfigError: the file cannot be written.
        StoreMissingError: the store's file is no longer the one that was opened.
    """
    store.check_file()
    if out is None:
        out = Path(store.folder) / "exports" / f"assignments-{plan.strategy}-plan-{plan.id}.jsonl"
    part = out.with_name(out.name + ".part")
    names = {row.id: row.name for row in registry.models(store, "teacher", archived=True, superseded=True)}
    order = [str(name) for name in plan.manifest.get("teachers", [])]
    lines = 0
    try:
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            for page in assignment_pages(store, plan.id):
                texts = prompts.get(store, {row.prompt_id for row in page})
                for row in page:
                    line = {
                        "prompt_id": row.prompt_id,
                        "messages": [dict(message) for message in texts[row.prompt_id].messages],
                        "teacher": names.get(row.teacher_id),
                        "attempt": row.attempt,
                        "margin": row.margin,
                        "strengths": dict(zip(order, row.strengths, strict=False)) if row.strengths else None,
                    }
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    lines += 1
        part.replace(out)
    except OSError as problem:
        raise ConfigError(
            f"{out}: cannot be written: {problem.strerror}", "free space, or mend its folder"
        ) from None
    return out, lines
