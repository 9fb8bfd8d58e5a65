"""A managed vLLM teacher, over HTTP as the engine asks it, against vLLM's own offline `LLM.chat`, as one ratio.

    PERSYN_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/endpoint.py [--model FOLDER] [--prompts 96] [--rounds 3]

Both have the model loaded at the same time, with the same settings, and get the same prompts in turns; every round has
prompts of its own, so that no prefix cache knows them, and the one that begins changes, so that a busy machine hits
both alike. Tokens are those of the answers.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from engine.base.errors import NotAvailable
from engine.sources import source_kinds
from engine.sources.kinds.reasoning_gym import ReasoningGymSource
from engine.teachers import teacher_kinds
from engine.teachers.vllm_server import command
from engine.zoo import resolve
from storage.records import Model, Prompt, Request, Sampling

CONTEXT = 1024
VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1"}

PEER = """
import json, sys, time
out, sys.stdout = sys.stdout, sys.stderr
from vllm import LLM, SamplingParams

def main():
    model, context, gpu = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "gpu"
    llm = LLM(model, max_model_len=context, enforce_eager=not gpu, enable_prefix_caching=True, generation_config="vllm")
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        sampling = SamplingParams(temperature=0, seed=0, max_tokens=asked["tokens"])
        began = time.perf_counter()
        answers = llm.chat(asked["conversations"], sampling, use_tqdm=False)
        took = time.perf_counter() - began
        tokens = sum(len(answer.outputs[0].token_ids) for answer in answers)
        print(json.dumps([tokens, took]), file=out, flush=True)

if __name__ == "__main__":
    main()
"""


@contextmanager
def peer(python: str, model: str, folder: Path) -> Iterator[Any]:
    """A process that answers with `LLM.chat`: (conversations, tokens) -> (tokens, seconds)."""
    script = folder / "peer.py"
    script.write_text(PEER, encoding="utf-8")
    gpu = "gpu" if Path("/dev/nvidia0").exists() else "cpu"
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [python, str(script), model, str(CONTEXT), gpu],
            env=command.environment(VARIABLES),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    if stdout.readline() != "ready\n":
        raise SystemExit((folder / "peer.log").read_text(encoding="utf-8")[-2000:])

    def ask(conversations: list[Any], tokens: int) -> tuple[int, float]:
        stdin.write(json.dumps({"conversations": conversations, "tokens": tokens}) + "\n")
        stdin.flush()
        made, took = json.loads(stdout.readline())
        return made, took

    try:
        yield ask
    finally:
        stdin.close()
        process.wait(60)


def ours(backend: teacher_kinds.Backend, prompts: list[Prompt], tokens: int) -> tuple[int, float]:
    """(tokens, seconds) of the engine's way."""
    sampling = Sampling(temperature=0, max_tokens=tokens)
    requests = [Request(number, prompt.messages, sampling) for number, prompt in enumerate(prompts)]
    began = time.perf_counter()
    made = sum(completion.completion_tokens for completion in backend.generate(requests))
    return made, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="zoo:smollm2-135m")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    try:
        python = command.find()[0]
        if not Path(python).name.startswith("python"):
            raise NotAvailable("it takes an interpreter that has vLLM", f"name it in {command.PYTHON}")
        folder = resolve.resolve(options.model)
    except Exception as error:  # a machine without vLLM or the model: `make bench` goes on
        print(f"skipped: {error}")
        return
    source = ReasoningGymSource(
        source="reasoning_gym", task="gsm_symbolic", size=options.prompts * options.rounds, seed=1
    )
    prompts = [prompt for _, prompt in source_kinds.read(source)]
    model = Model("bench", "teacher", "vllm", folder, context=CONTEXT, options={"server": {"env": VARIABLES}})
    speeds: dict[str, list[float]] = {"ours": [], "LLM.chat": []}
    with (
        tempfile.TemporaryDirectory() as scratch,
        peer(python, folder, Path(scratch)) as ask,
        closing(teacher_kinds.open_backend(model, Path(scratch))) as backend,
    ):
        warm = prompts[:1]
        ours(backend, warm, 4)
        ask([list(prompt.messages) for prompt in warm], 4)
        for number in range(options.rounds):
            part = prompts[number * options.prompts : (number + 1) * options.prompts]
            turns = {
                "ours": partial(ours, backend, part, options.tokens),
                "LLM.chat": partial(ask, [list(prompt.messages) for prompt in part], options.tokens),
            }
            for name in sorted(turns, reverse=number % 2 == 0):
                made, took = turns[name]()
                speeds[name].append(made / took)
                print(f"{name:9} round {number}: {made:,} tokens, {made / took:,.0f} tokens/s", flush=True)
    ratio = max(speeds["ours"]) / max(speeds["LLM.chat"])
    mean = sum(speeds["ours"]) / sum(speeds["LLM.chat"])
    print(
        f"managed vLLM over HTTP ÷ LLM.chat, tokens/s, {options.rounds} rounds: best {ratio:.2f}, mean {mean:.2f}"
    )


if __name__ == "__main__":
    main()
