"""The hashes of a run's results: a change of one would orphan everything that stores hold under it.

The expected values were computed by version 0.1.0. One may change only together with the result that it stands for.
"""

from pathlib import Path

import pytest

from engine.config import run_file
from engine.job.identity import RunIdentity
from engine.registry import models
from storage.hashing import sha

MANY = """
name: many
student:
  {name: pupil, model: pupil, family: llama, system: Think., context: 96, dtype: float32, batch_tokens: 512}
teachers:
  - name: one
    model: m-1
    backend: openai
    base_url: "http://127.0.0.1:9/v1"
    family: llama
    parameters: 7
    price: {output: 2}
    sampling: {temperature: 0.3}
  - {name: two, model: m-2, backend: openai, base_url: "http://127.0.0.1:9/v1", parameters: 70, system: Be brief.}
  - {name: three, model: m-2, backend: openai, base_url: "http://127.0.0.1:9/v1", family: qwen, parameters: 14}
prompts:
  - {source: jsonl, path: p.jsonl, verifier: text}
  - {source: reasoning_gym, task: chain_sum, size: 30, seed: 4, split: evaluation}
split: {calibration: 8, validation: 3, evaluation: 4, seed: 7}
calibration: {teachers_per_prompt: 2}
too_long: mark
quality:
  scorers:
    - {scorer: exact_answer, weight: 2}
    - {scorer: judge, weight: 0.5, model: j, mode: pairs, base_url: "http://127.0.0.1:9/v1", reference: true}
  normalization: minmax
learnability: {count_end_of_turn: false}
reasoning: {quality: true, learnability: true, dataset: true}
reward: {alpha: 0.3, normalization: minmax, exclude_all_wrong: false}
router: {backbone: "zoo:router", tune: frozen, seed: 3, device: cpu, ties: half}
generation: {max_tokens: 60, fallbacks: 2, max_attempts: 4, stop: [END]}
dataset: {keep: correct}
distill: {epochs: 3, held_out: 0.1, batch_size: 4, merge: false}
evaluation: {seed: 5}
strategies: [persyn, oracle, strong, mix, car, random, family_strong]
strong_share: 0.3
car_beta: 2.5
"""
"""Sets what changes a hash to something that is no default."""
PLAIN = """
name: plain
student: {name: pupil, model: pupil}
teachers:
  - {name: one, model: m-1, backend: openai, base_url: "http://127.0.0.1:9/v1"}
  - {name: two, model: m-2, backend: openai, base_url: "http://127.0.0.1:9/v1"}
prompts: [{source: jsonl, path: p.jsonl, verifier: text}]
quality: {scorer: judge, model: j, base_url: "http://127.0.0.1:9/v1"}
"""
LABELLED = """
name: labelled
student: {name: pupil, model: pupil, dtype: bfloat16}
teachers:
  - {name: one, model: m-1, backend: openai, base_url: "http://127.0.0.1:9/v1", parameters: 3}
  - {name: two, model: m-2, backend: openai, base_url: "http://127.0.0.1:9/v1", parameters: 5, family: qwen}
  - {name: three, model: m-3, backend: openai, base_url: "http://127.0.0.1:9/v1", parameters: 9, family: gemma}
prompts: [{source: jsonl, path: p.jsonl, verifier: text, split: calibration}, {source: jsonl, path: p.jsonl}]
split: {validation: 2, synthesis: 5}
quality: {scorer: reward_model, model: pupil, batch_tokens: 256}
reward: {alpha: 0.7, unusable: missing}
reasoning: {quality: true}
generation: {temperature: 0.9, top_p: 0.8, seed: 2}
router: {backbone: "zoo:router", targets: soft, temperature: 0.5, rank: 4}
distill: {method: full, learning_rate: 0.00001, max_length: 700, overlong: truncate}
strategies: [random, persyn, car]
"""
"""All teachers answer for calibration, a reward model scores, full fine-tuning."""
OF_MANY = {
    "prompts": "a0ddae20bfe54c5e2fd9bb7b3e8a3ddcdca837b7ebdeb239f0fbcf8dbd943412",
    "scorer exact_answer": "2a14b111a21b6f8684cf78b9cc1746127499c475b6a7616ba07fb597d1c353b8",
    "scorer judge": "06da47594bf267e46c6f1455cfb6942edce51fecbf00175b5977f7c960e0f559",
    "scorer learnability": "9d90ed4f339b39460646567686d409f48788008d505b8d4500399a591e9efb5c",
    "quality": "5c5306350e07c572c533792608c2dd3d850e59a35c3a5e6e439749fb82e14768",
    "design": "ecaa98352132bf3d4e28a245c6bbb300b4a9a67dd7d5d9f5d5499aaa52b00c67",
    "evidence": "35e52e1a331181a925aa7b65377d7676d870d9bbe9585cec3b9f6703637eb1ef",
    "router": "2e7807a339e36eb64ab7789b3eee414d6934f9efb69c0dc3d4abf294fccf4872",
    "plan persyn": "edab4875ed8f026b137483b6909516737803af258feb4ff3b7a1df382c122d90",
    "plan oracle": "32123bfcade2aa541a0feb218677ea1ead9796151c367e5d2eddee9d77f3ec1f",
    "plan strong": "c9022bb349c5a9fe5039479e1d98c9a51add4773fa447ba2985ce2aa2ac37344",
    "plan mix": "32ec12da841d92e970284960753d90e0dd6a1f8c7f86428a0090ea5867e27839",
    "plan car": "e769c534ed616463498dd056ca71470e2bfa4b30dfdfa4f7756f84728c83435a",
    "plan random": "9df1d0e757f88efd45133d8fd7b7ead5a7c202901cf033324a01e16ccc81323f",
    "plan family_strong": "647ff8cb4af64c4f3949f6049a44bf74d808fcdf8e86ec52be9e491fc09d2cf4",
    "dataset": "2c60e2d56924ecb976aa347530dbd79e79399dc294fc559afa009fc05b85fbd9",
    "training": "4623d13c4004204e69f6c4831973423afb2ba244c6ff56daedfd6106147515c3",
    "adapter": "4623d13c4004204e69f6c4831973423afb2ba244c6ff56daedfd6106147515c3",
    "adapter without 3 and 5": "d02a11fe47eeede8772f6952529e64dd9a32eefc1f5c9c89613e5e8afe56e467",
    "evaluation before": "0c336f0e3252f59b34594777e549fc9d70c9262baea9d87fb4ae28c303975221",
    "evaluation": "bb070f2ec8484b001f9ffad7b567caf53407ca2a09bb8fcb18b47bc88c59a9ec",
}
OF_PLAIN = {
    "prompts": "dfec16ba03cc19be38750d8beca55f52fad9a8009d813e8756356080d92e1eb5",
    "scorer judge": "76d7cf36aed6e9d68c5d0ded207a6b7373e1a444403da54f610ed682d17de496",
    "scorer learnability": "f54dacccfdfed56ad8a035360971762ad08552c7528f9f222f52058e6b2061d6",
    "scorer exact_answer": "2a14b111a21b6f8684cf78b9cc1746127499c475b6a7616ba07fb597d1c353b8",
    "quality": "76d7cf36aed6e9d68c5d0ded207a6b7373e1a444403da54f610ed682d17de496",
    "design": "a0fcbab953e833c5a04ecec788c93d0b0be38b3e4cafe4949f1023be87e23853",
    "evidence": "9df8587d6624c07545d0c2640bd687da0c7e6b57dcf063ec14e262467d09e95d",
    "router": "b57eecb4a9c26d9ffcd88ec3fe90bffd5e052e7abdafd0a78dcbbf27bd8da29c",
    "plan persyn": "2932488cdce4de32d296ba2856ba7527b9e62b46315b5f6c47ea5e6e0ac807b2",
    "dataset": "ba9b9f255d6c4ce2ca324e086b896c8789004b6a0a8aee6704326db9877753b3",
    "training": "ea5a9f114494b68975509aab5f6f5133ca8a135f6620fb546042aa6c6fee1e05",
    "adapter": "ea5a9f114494b68975509aab5f6f5133ca8a135f6620fb546042aa6c6fee1e05",
    "adapter without 3 and 5": "5139604951fa49f00822fe14dc10289a38dde9da847253a2a69f0ad42cdf812a",
    "evaluation before": "c1f66b9043d642d18467ae28f4398833e2b0a377a76a35511d4e80bba4dfba16",
    "evaluation": "51f6fc41ee1fb37d600dc46e3e8717a6a95cfd7b792fc6a4ff301d0f21cd2f52",
}
OF_LABELLED = {
    "prompts": "5609939191c772da732f3fdd93c1c34aa806ae39c4c7746bc27ba9ca2f384a09",
    "scorer reward_model": "969f0c31c0e993b27bc819c904018dba86c6b6fc7791270909dd51a021d9a0f1",
    "scorer learnability": "3c708ad141d60b41af493864601f50e938c9f92f1907dfce6e2d730d044fb435",
    "scorer exact_answer": "2a14b111a21b6f8684cf78b9cc1746127499c475b6a7616ba07fb597d1c353b8",
    "quality": "969f0c31c0e993b27bc819c904018dba86c6b6fc7791270909dd51a021d9a0f1",
    "design": "d3e262c75add8c724f8120582afd2545482ce12aa9f07d25763f7467270dad11",
    "evidence": "d12bfee32db48689c6466ef1186897f40f3651de724dd32acbb6d3620e5a4507",
    "router": "4fd6e4cbf2e8dc1f9cb14a9791a8acea56860d1bbed7b4c4249eb378c081837a",
    "plan random": "0f72cbf1e8a090ccc94fda37edc4c65ff5d39f6d998df0607130f24f74608085",
    "plan persyn": "3b087feb075e35cd0c2a32f9887afafde266234a730aeb071ec3e46a33dbe7d5",
    "plan car": "6113e6b0ef136bde455203326afa430c4043afc9d23fbc92f279b2faec469b1a",
    "dataset": "1a4dbfed36b2eaee68908024fc3faaa0c7e9fa6215a8cc94d31befe379648330",
    "training": "7eee02e0bc0732739ccc8242b1fd81d3008ada0afb93b8764d3468ab2a77584c",
    "adapter": "7eee02e0bc0732739ccc8242b1fd81d3008ada0afb93b8764d3468ab2a77584c",
    "adapter without 3 and 5": "02eb8dcf5732f11f0464b262906c0d41b5d741e28203bea29c7002295aaa5b3d",
    "evaluation before": "44fa8a546e52ab006ae846db68e2a9a4f8243c57b8c3ec8736ac34f1b2a5c98f",
    "evaluation": "69ba1b57a495b9120bbcdab146b29d156a8186fd5190efc34be5b53de66d685a",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [(MANY, OF_MANY), (PLAIN, OF_PLAIN), (LABELLED, OF_LABELLED)],
    ids=["many", "plain", "labelled"],
)
def test_no_hash_has_changed(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "pupil").mkdir()
    (tmp_path / "pupil" / "config.json").write_text('{"model_type": "llama", "vocab_size": 8}')
    (tmp_path / "pupil" / "tokenizer.json").write_text("{}")
    (tmp_path / "pupil" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (tmp_path / "p.jsonl").write_text('{"prompt": "1+1?", "answer": "2"}\n')
    (tmp_path / "run.yaml").write_text(text)
    run = run_file.load(tmp_path / "run.yaml")
    teachers = [models.teacher(teacher, run.generation) for teacher in run.teachers]
    identity = RunIdentity(run, teachers, models.student(run))

    found = {"prompts": identity.prompt_set_sha}
    for name in (*run.quality.named, "learnability", "exact_answer"):
        found[f"scorer {name}"] = sha(identity.scorer(name).identity)
    found |= {
        "quality": sha(identity.quality),
        "design": identity.design_sha,
        "evidence": identity.evidence_sha,
        "router": identity.router_sha,
    }
    for strategy in run.strategies:
        found[f"plan {strategy}"] = identity.plan_sha(strategy)
    first = run.strategies[0]
    adapter = identity.adapter_sha(first)
    found |= {
        "dataset": identity.dataset_sha(first),
        "training": adapter,
        "adapter": identity.adapter_sha(first, ()),
        "adapter without 3 and 5": identity.adapter_sha(first, (3, 5)),
        "evaluation before": identity.evaluation_sha(None),
    }
    found["evaluation"] = identity.evaluation_sha(found["adapter without 3 and 5"])
    assert found == expected
