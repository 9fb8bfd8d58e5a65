"""Train a student in a process of its own that kills itself: `train_child.py SPEC.json`."""

import json
import os
import signal
import sys
from pathlib import Path

from engine.distill.data import Rows
from engine.distill.loop import train
from engine.distill.lora import Tuning
from engine.distill.settings import Hooks, Settings
from engine.models.loading import load_causal_lm


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    rename = spec.get("kill_before_rename_of")

    def watch(event: str, arguments: tuple) -> None:
        if event == "os.rename" and rename and rename in str(arguments[1]):
            die()

    sys.addaudithook(watch)
    model, tokenizer = load_causal_lm(spec["student"], four_bit=spec["method"] == "qlora")
    settings = Settings(
        tuning=Tuning(method=spec["method"], rank=4, dropout=0.1),
        batch_rows=4,
        checkpoint_every=5,
        seed=3,
    )
    train(
        model,
        tokenizer,
        Rows([(messages, response) for messages, response in spec["rows"]]),
        Path(spec["folder"]),
        settings,
        Hooks(on_progress=lambda report: die() if report["step"] == spec.get("kill_after_step") else None),
    )


if __name__ == "__main__":
    main()
