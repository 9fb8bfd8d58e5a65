"""Answers many prompts with less address space than one batch needs; prints what became of them as JSON."""

import json
import resource
import sys
from pathlib import Path

import torch

from engine.teachers import teacher_kinds
from storage.records import Model, Request, Sampling

ROWS, ROOM = 64, 48 * 2**20

torch.set_num_threads(1)
backend = teacher_kinds.open_backend(
    Model("m", "teacher", "transformers", sys.argv[1], options={"device": "cpu", "batch_tokens": 10**6})
)


def requests(count: int) -> list[Request]:
    turns = [({"role": "user", "content": f"{key} {'word ' * 10}"},) for key in range(count)]
    return [Request(key, turn, Sampling(max_tokens=4)) for key, turn in enumerate(turns)]


list(backend.generate(requests(2)))  # what is allocated once is there now
pages = int(Path("/proc/self/statm").read_text().split()[0])
used = pages * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
done = list(backend.generate(requests(ROWS)))
print(json.dumps({"statuses": sorted(one.status for one in done), "budget": backend._budget}))
