"""One run with teachers of several kinds side by side: a server with replicas, a folder, a GGUF file, an adapter."""

import threading
from collections import Counter

from sqlalchemy import func, select
from support import RUN, Workspace, good, wait_until
from teachers import gguf_files
from teachers.endpoint import Endpoint, Reply

from engine.zoo import resolve
from storage import schema
from storage.errors import PersynError

KINDS = """  - {name: remote, backend: openai, model: m, base_url: [%s, %s],
     endpoint: {retry: {cooldown: 0.01, probes: 3}}}
  - {name: folder, model: "zoo:brief", family: llama}
  - {name: packed, model: ./small.gguf}
  - {name: tuned, adapter: ./adapter}
"""
CALIBRATED = 28


def stored(workspace: Workspace) -> Counter[str]:
    """Responses by teacher."""
    row = schema.ResponseRow
    with workspace.open() as store, store.read() as connection:
        names = dict(connection.execute(select(schema.ModelRow.id, schema.ModelRow.name)).all())
        found = connection.execute(select(row.teacher_id, func.count()).group_by(row.teacher_id)).all()
    return Counter({names[teacher]: count for teacher, count in found})


def test_four_kinds_of_teacher_to_the_end_through_kill_9(workspace: Workspace) -> None:
    gguf_files.convert(gguf_files.folder(workspace.folder / "llama"), workspace.folder / "small.gguf")
    gguf_files.adapted(resolve.resolve("zoo:brief"), workspace.folder / "adapter")
    release = threading.Event()

    def held(body, number) -> Reply:
        return good(body, number) if number < 3 else Reply(body=good(body, number).body, hold=release)

    with Endpoint(held) as first, Endpoint(held) as second:
        start, end = RUN.index("  - {name: brief"), RUN.index("prompts:")
        workspace.write(RUN[:start] + KINDS % (first.url, second.url) + RUN[end:])
        process = workspace.start("run", workspace.folder / "run.yaml")

        def stuck() -> bool:
            try:
                return workspace.database.exists() and sum(stored(workspace).values()) == 3 * CALIBRATED + 6
            except PersynError:
                return False

        wait_until(process, stuck)
        process.kill()
        process.communicate()
        release.set()
        sent = len(first.requests) + len(second.requests)
        report = workspace.run()
        after = stored(workspace)
        asked = len(first.requests) + len(second.requests)
    assert report["strategies"][0]["accuracy_after"] is not None
    prompts = workspace.counts()["prompts"]
    assert sum(after.values()) == 4 * CALIBRATED + (prompts - CALIBRATED - 10)
    assert min(after[name] for name in ("remote", "folder", "packed", "tuned")) >= CALIBRATED
    # Sent again: only what was in flight at the kill.
    assert asked - after["remote"] <= sent - 6
