"""An answer's end is known, or it is not trusted: the replies of the field, and the words of every provider."""

import json
from pathlib import Path
from typing import Any

import pytest
from field.replies import answered, body, verdict

from engine.config.kinds import teacher_kind
from engine.models.endings import ENDINGS, ending
from engine.registry import models
from engine.teachers import teacher_kinds
from engine.teachers.endpoint.failure import Failure
from storage.records import Model, Request, Sampling

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "endpoints.jsonl").open(encoding="utf-8")
]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_reply_of_the_field_is_what_it_is(case: dict[str, Any]) -> None:
    found = verdict(case["http"], case["body"].encode())
    right = case["right"][:1] if case["right"][0] == "unusable" else case["right"]
    assert found == right


WORDS = {
    # how it ended: provider, its word
    "stop": [
        ("OpenAI", "stop"),
        ("Anthropic", "end_turn"),
        ("Anthropic", "stop_sequence"),
        ("Gemini", "STOP"),
        ("Gemini's protobuf", 1),
        ("Vertex's SDK", "FinishReason.STOP"),
        ("Vertex's proto", "FINISH_REASON_STOP"),
        ("Cohere", "COMPLETE"),
        ("TGI", "eos_token"),
        ("Together", "eos"),
        ("AI21", "endoftext"),
        ("LM Studio", "eosFound"),
        ("LM Studio", "stopStringFound"),
        ("Titan", "FINISH"),
        ("Yandex", "ALTERNATIVE_STATUS_FINAL"),
        ("xAI", "REASON_STOP"),
        ("SGLang", {"type": "stop", "matched": 151645}),
        ("Baidu", "normal"),
        ("a token's name", "</s>"),
        ("a quoted word", '"stop"'),
        ("none", None),
        ("none", ""),
        ("a hole in a table", float("nan")),
        ("none, as a word", "null"),
        ("Vertex, none", "FINISH_REASON_UNSPECIFIED"),
    ],
    "length": [
        ("OpenAI", "length"),
        ("OpenAI, shouted", "LENGTH"),
        ("OpenAI Responses", "max_output_tokens"),
        ("OpenAI, before", {"type": "max_tokens"}),
        ("Anthropic", "max_tokens"),
        ("Anthropic", "model_context_window_exceeded"),
        ("Anthropic", "pause_turn"),
        ("Gemini", "MAX_TOKENS"),
        ("Gemini's protobuf", 2),
        ("a CSV of it", "2.0"),
        ("Vertex's SDK", "FinishReason.MAX_TOKENS"),
        ("Gemini's REST", "finish_reason: MAX_TOKENS"),
        ("node", "maxTokens"),
        ("a dash", "max-tokens"),
        ("spaces", " Max Tokens "),
        ("Mistral", "model_length"),
        ("Cohere", "ERROR_LIMIT"),
        ("LM Studio", "maxPredictedTokensReached"),
        ("LM Studio", "contextLengthReached"),
        ("llama.cpp", "limit"),
        ("watsonx", "time_limit"),
        ("xAI", "REASON_MAX_LEN"),
        ("xAI", "REASON_MAX_CONTEXT"),
        ("Aleph Alpha", "maximum_tokens"),
        ("Yandex", "ALTERNATIVE_STATUS_TRUNCATED_FINAL"),
        ("SGLang", {"type": "length", "length": 48}),
        ("Qwen", "repetition_truncation"),
        ("TensorRT-LLM", "timed_out"),
        ("OpenAI Responses", "incomplete"),
        ("Azure's SDK", "CompletionFinishReason.TokenLimitReached"),
        ("a longer word", "max_new_tokens_reached"),
        ("a longer word", "ERROR_MAX_TOKENS"),
    ],
    "content_filter": [
        ("OpenAI", "content_filter"),
        ("AI SDK", "content-filter"),
        ("LangChain", "ContentFilter"),
        ("Anthropic", "refusal"),
        ("Gemini", "SAFETY"),
        ("Gemini", "RECITATION"),
        ("Gemini", "BLOCKLIST"),
        ("Gemini", "PROHIBITED_CONTENT"),
        ("Gemini", "SPII"),
        ("Gemini", "IMAGE_SAFETY"),
        ("Gemini's protobuf", 3),
        ("Vertex", "MODEL_ARMOR"),
        ("Bedrock", "guardrail_intervened"),
        ("Bedrock", "content_filtered"),
        ("Titan", "CONTENT_FILTERED"),
        ("Cohere", "ERROR_TOXIC"),
        ("Zhipu", "sensitive"),
        ("GigaChat", "blacklist"),
        ("a longer word", "blocked_by_safety"),
        ("Azure's SDK", "CompletionFinishReason.ContentFiltered"),
        ("Yandex", "ALTERNATIVE_STATUS_CONTENT_FILTER"),
    ],
    "tool_calls": [
        ("OpenAI", "tool_calls"),
        ("OpenAI, before", "function_call"),
        ("Anthropic", "tool_use"),
        ("Cohere", "TOOL_CALL"),
        ("Gemini", "MALFORMED_FUNCTION_CALL"),
        ("LM Studio", "toolCalls"),
    ],
    "error": [
        ("OpenRouter", "error"),
        ("vLLM", "abort"),
        ("DeepSeek", "insufficient_system_resource"),
        ("Zhipu", "network_error"),
        ("Cohere", "ERROR"),
        ("Cohere", "USER_CANCEL"),
        ("watsonx", "cancelled"),
        ("LM Studio", "modelUnloaded"),
        ("LM Studio", "failed"),
        ("a longer word", "upstream_error"),
        ("a longer word", "stopped_by_user"),
        ("Bedrock", "malformed_model_output"),
    ],
}
"""Of each provider's reference; see `engine.models.endings`."""


@pytest.mark.parametrize("right", WORDS)
def test_every_providers_word_is_known_in_any_spelling(right: str) -> None:
    assert {(who, str(word)): ending(word) for who, word in WORDS[right]} == {
        (who, str(word)): right for who, word in WORDS[right]
    }


@pytest.mark.parametrize(
    "word", ["done_by_magic", "OTHER", "LATE_HALT", 77, {"why": "x"}, ["odd"], True, "止", "…"]
)
def test_a_word_that_nobody_knows_is_no_end_to_trust(word: Any) -> None:
    found = answered(body(finish=word))
    assert found.finish_reason not in ENDINGS
    assert found.finish_reason
    assert (found.status, found.text) == ("truncated", "The sum is 4.")


def test_a_word_is_what_the_run_file_says_of_it() -> None:
    own = {"Done_By_Magic": "stop", "stop": "stop"}
    assert answered(body(finish="done_by_magic"), finish_reasons=own).status == "ok"
    assert (
        answered(body(finish="fuse blown"), finish_reasons={"fuse blown": "content_filter"}).status
        == "refused"
    )


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (body(finish="stop", choice={"native_finish_reason": "MAX_TOKENS"}), ("truncated", "length")),
        (body(finish=None, choice={"native_finish_reason": "SAFETY"}), ("refused", "content_filter")),
        (body(finish="stop", choice={"native_finish_reason": "completed"}), ("ok", "stop")),
        (body(finish="left out", choice={"finish_details": {"type": "max_tokens"}}), ("truncated", "length")),
        (
            body(finish="left out", choice={"finish_details": {"type": "stop", "stop": "<|fim|>"}}),
            ("ok", "stop"),
        ),
        # Nothing is said of the end, and every token that it might have was used.
        (body(finish=None, usage={"completion_tokens": 48}), ("truncated", "length")),
        (body(finish=None, usage={"completion_tokens": 47}), ("ok", "stop")),
        (body(finish="stop", usage={"completion_tokens": 48}), ("ok", "stop")),
        (body("Let me look.", finish="tool_calls"), ("truncated", "tool_calls")),
        (body([{"type": "refusal", "refusal": "I cannot."}]), ("refused", "content_filter")),
        (body("", finish="length"), ("truncated", "length")),
        (body(None, finish="stop"), ("empty", "stop")),
    ],
)
def test_what_else_a_reply_says_of_its_end_counts(reply: bytes, right: tuple[str, str]) -> None:
    found = answered(reply)
    assert (found.status, found.finish_reason) == right


def test_an_answer_that_a_fault_broke_off_is_no_answer() -> None:
    for reply in (
        body(finish="insufficient_system_resource"),
        body(finish="error", choice={"error": {"code": 502, "message": "Upstream died"}}),
        body("cut", finish="abort"),
    ):
        with pytest.raises(Failure) as caught:
            answered(reply)
        assert caught.value.kind in ("fault", "down")
    beside = json.loads(body("")) | {"error": {"code": 429, "message": "slow"}}
    for reply in (
        body("half", finish="error", choice={"error": beside["error"]}),
        json.dumps(beside).encode(),
    ):
        with pytest.raises(Failure) as caught:
            answered(reply)
        assert caught.value.kind == "overload"
    assert answered(body(choice={"error": None})).status == "ok"
    assert answered(body(choice={"error": {}})).status == "ok"


def test_tokens_that_a_server_does_not_count_are_guessed() -> None:
    for usage in (
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"completion_tokens": None},
        {"completion_tokens": "9"},
    ):
        found = answered(body(usage=usage))
        assert (found.prompt_tokens, found.completion_tokens) == (4, 4)


def test_imported_rows_end_as_their_words_say(tmp_path: Path) -> None:
    words = [
        "LENGTH",
        "max_tokens",
        "MAX_TOKENS",
        "SAFETY",
        "insufficient_system_resource",
        "eos",
        None,
        "fuse_blown",
        2,
    ]
    rows = [
        {
            "prompt": f"What is {n}?",
            "model": "m",
            "response": "<think>a</think>It is 4.</s>",
            "finish_reason": word,
        }
        for n, word in enumerate(words)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def teacher(**source: Any) -> Model:
        settings = {"source": "imported", "path": str(path), **source}
        return Model("a", "teacher", "imported", "m", options={"responses": [settings]})

    def given(**source: Any) -> list[tuple[str, str]]:
        requests = [
            Request(n, ({"role": "user", "content": row["prompt"]},), Sampling())
            for n, row in enumerate(rows)
        ]
        found = sorted(
            teacher_kinds.open_backend(teacher(**source)).generate(requests), key=lambda one: one.key
        )
        assert {(one.text, one.reasoning, one.mark) for one in found} == {("It is 4.", "a", "<think>")}
        return [(one.status, one.finish_reason) for one in found]

    right = [("truncated", "length")] * 3 + [
        ("refused", "content_filter"),
        ("error", "error"),
        ("ok", "stop"),
        ("ok", "stop"),
    ]
    assert given() == [*right, ("truncated", "fuse_blown"), ("truncated", "length")]
    assert given(finish_reasons={"Fuse_Blown": "stop"})[7] == ("ok", "stop")
    (note,) = teacher_kind("imported").notes(teacher())
    assert note.startswith(
        "teacher a: 1 of its rows in rows.jsonl end with finish_reason 'fuse_blown', which is not known"
    )
    assert teacher_kind("imported").notes(teacher(finish_reasons={"fuse_blown": "stop"})) == []
    plain = models.generation_sha(teacher())
    assert models.generation_sha(teacher(finish_reasons={})) == plain
    assert models.generation_sha(teacher(finish_reasons={"fuse_blown": "stop"})) != plain


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("I'm sorry, but I can't help with that.", "refused"),
        ("Sorry, I can’t assist with that.", "refused"),
        ("I cannot assist with that request.", "refused"),
        ("I can't help with this.", "refused"),
        ("I'm unable to help you with that request.", "refused"),
        ("I can't help but add: 2 + 2 = 4.", "ok"),
        ("I cannot provide the number, it has no end.", "ok"),
        ("To refuse, write: I cannot assist with that request.", "ok"),
    ],
)
def test_a_refusal_in_plain_words_is_one(text: str, right: str) -> None:
    assert answered(body(text)).status == right
