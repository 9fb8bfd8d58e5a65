"""A plan's hash finds what old stores hold: these values were computed when strategies were one module."""

from unittest.mock import Mock

import pytest

from engine.config import run_file
from engine.job.context import RunContext
from storage.records import Model

RUN = """
student: {{name: s, model: zoo:student, family: qwen}}
teachers:
  - {{name: large, model: org/large, family: llama, parameters: 72.0e9}}
  - {{name: small, model: org/small, family: qwen, parameters: {parameters}}}
prompts: [{{source: reasoning_gym, task: gcd, size: 10}}]
strategies: [strong, mix, family_strong, car, random, persyn, oracle]
{more}
"""
SETTINGS = "strong_share: 0.5\ncar_beta: 1\nreward: {alpha: 0.7}\nrouter: {rank: 4}"


@pytest.mark.parametrize(
    ("parameters", "more", "expected"),
    [
        (
            "0.5e9",
            "",
            {
                "strong": "cfd43e8ba10b6169f287404cd6ca47e74f6219f0eeee9022299542f7e7b4966f",
                "mix": "b48b3fe43f21b1448a368ade664ceb3e696846bde1252f72cf3f73505b5da98e",
                "family_strong": "2f19a8ab4835a29b2ef6ffe60c5e3d307ae209f10e06700a8bc22fd81aa39ad2",
                "car": "76da8cf4356e33ab681a95e35ced31bb029f97b7b8a5e193bfbd49d655b6bb57",
                "random": "c0577e3240eaf7a6d7f0e77a53de866dbe409fed25e4599881ec8c1ee46ebea2",
                "persyn": "943330dcf5385113b17853cb872059ece31bafbb689d978c00e76731568defb9",
                "oracle": "e20dd2f37fd8829083b51d518364ba73ec21bfdcc302f63a67ca2aa6693b2c9d",
            },
        ),
        (
            "null",
            "",
            {
                "strong": "d3d3e18cd1d2c68a6dc21cbb040f7ab50b10bf6449c6c1878bcdf9076029847a",
                "mix": "bab017e9768bd534e3a6416ead2bedb5bfb72c484b480baa262317ded9ddb5e4",
                "family_strong": "1533098794c68dcde0d414f3feb865048e5001b40d3e6beee9a6ac5d8dd8ceb5",
                "car": "44d59f09093c43011c599f52e2c9523627d10b46b776d523ba59f5bd7d543e2f",
                "random": "9e78a5ccbb6eb97f087f40f494ad3464872794fe90cce64287ec33f84ee8e254",
                "persyn": "8ebb8b6ff62a037c88ac41a8f01d58908358081683ca322782da24b63446cdfc",
                "oracle": "b1486e3a55b98fba45dc337f02eea27e901a8e6cbf5f33878aa4c4ad2d8deb6d",
            },
        ),
        (
            "0.5e9",
            SETTINGS,
            {
                "strong": "cfd43e8ba10b6169f287404cd6ca47e74f6219f0eeee9022299542f7e7b4966f",
                "mix": "7f813420ef6b074571243cada88ad4d49cd14b5781146aa0260acec2073580c5",
                "family_strong": "2f19a8ab4835a29b2ef6ffe60c5e3d307ae209f10e06700a8bc22fd81aa39ad2",
                "car": "b31a6abca567e3a88fb2b6118101bd78254fd8c4e22f2ffdebc1e42fc06a38c3",
                "random": "c0577e3240eaf7a6d7f0e77a53de866dbe409fed25e4599881ec8c1ee46ebea2",
                "persyn": "60e47fb003d4a6ab060b1acc57a0a8164317e09cc14096a457da273f76516628",
                "oracle": "824b4602c977a077760f8f57bb60f2ecaf4679c24a638f092b0666d19ca899c7",
            },
        ),
    ],
)
def test_plan_hashes_are_those_of_old_stores(parameters: str, more: str, expected: dict[str, str]) -> None:
    run = run_file.parse(RUN.format(parameters=parameters, more=more))
    teachers = tuple(
        Model(
            name=t.name,
            role="teacher",
            backend="transformers",
            model=t.model,
            family=t.family,
            parameters=t.parameters,
            id=number,
        )
        for number, t in enumerate(run.teachers, 1)
    )
    context = RunContext(run, Mock(), Mock(), teachers, Mock(), Mock(), lambda: False)
    # What depends on installed libraries and on files is set: the plan's own part is tested.
    context.identity.__dict__ |= {
        "prompt_set_sha": "p" * 64,
        "evidence_sha": "e" * 64,
        "generation_shas": ("a" * 64, "b" * 64),
    }
    assert {name: context.identity.plan_sha(name) for name in run.strategies} == expected
