"""How a response ended, in the words of every provider and of published data sets.

One table, read by endpoints and imported rows alike. Spelling does not matter: `MAX_TOKENS`, `max-tokens`, `maxTokens`,
`FinishReason.MAX_TOKENS` and `FINISH_REASON_MAX_TOKENS` are one reason. A reason that is not here is no end to trust:
the response counts as cut off, keeps the server's word, and the run names it once and counts it.

Sources, each provider's own reference of the field: OpenAI's chat completion object and its Responses'
`incomplete_details`; Azure OpenAI, content filtering; Anthropic, "Handling stop reasons"; Amazon Bedrock, Converse
`stopReason` and Titan `completionReason`; Gemini and Vertex AI, `Candidate.FinishReason`; xAI, `FinishReason` of its
gRPC API; Cohere, `ChatFinishReason` of v1 and v2; Yandex, `AlternativeStatus`; watsonx.ai, `stop_reason`; OpenRouter,
`finish_reason` and `native_finish_reason`; Mistral, DeepSeek, Zhipu (Z.ai), Moonshot, MiniMax, Tencent Hunyuan, Baidu
ERNIE, GigaChat, AI21, Aleph Alpha, Together; and the sources of vLLM, SGLang, TGI (`FinishReason`), llama.cpp
(`stop_type`), Ollama (`done_reason`), LM Studio (`LLMPredictionStopReason`) and TensorRT-LLM.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from engine.base.sanitize import one_line

_TABLE: Final[Mapping[str, str]] = {
    # `stop`: the model was done, or met a stop string; `length`: it was cut off, or waits to go on; `content_filter`:
    # it refused, or was kept from it; `tool_calls`: it waits for a tool that nobody offered, so its answer never
    # came; `error`: a fault broke it off.
    "stop": """
        s end stop_sequences stop_str succeeded hit_eos
        stop stopped end_turn stop_sequence stop_string stop_token stop_word stop_words word eos eos_token eot
        end_of_text end_of_sequence end_of_turn endoftext end_id eog_token complete completed completion done finish
        finished finished_by_stop normal success eos_found stop_string_found stop_criteria_met stop_sequence_reached
        stop_sequence_encountered im_end eot_id eom eom_id matched matched_stop matched_token matched_str matched_eos
        alternative_status_final final
    """,
    "length": """
        length max_tokens max_length max_len max_new_tokens max_output_tokens max_completion_tokens max_output max_token
        max_tokens_reached max_length_reached maximum_tokens maximum_length maximum_output_tokens
        token_limit token_limit_reached limit limit_reached output_limit
        model_length context_length context_limit max_context max_context_length context_length_exceeded
        context_length_reached context_window_exceeded model_context_window_exceeded max_predicted_tokens_reached
        error_limit incomplete truncated truncation cutoff cut_off
        repetition repetition_truncation repetition_detected repeat
        time_limit timeout timed_out time_out max_time time_limit_reached not_finished pause_turn partial
        alternative_status_truncated_final alternative_status_partial
    """,
    "content_filter": """
        content_filter content_filtered content_filter_error filtered filter refusal refused safety blocked blocklist
        blacklist block prohibited_content spii recitation language image_safety image_prohibited_content
        image_recitation guardrail_intervened guardrails guardrail model_armor moderation moderated flagged sensitive
        sensitive_content content_policy content_policy_violation policy_violation policy error_toxic toxic
        harmful jailbreak censored unsafe risk_content high_risk
        alternative_status_content_filter
    """,
    "tool_calls": """
        tool_calls tool_call tool_use tools function_call function_calls function function_tool_call
        malformed_function_call unexpected_tool_call too_many_tool_calls malformed_tool_use rag_query_when_rag_disabled
        alternative_status_tool_calls
    """,
    "error": """
        error errored failed failure fail abort aborted cancel canceled cancelled user_cancel user_stopped
        client_disconnect disconnected interrupted interrupt insufficient_system_resource insufficient_resources
        network_error server_error internal_error internal_server_error model_unloaded unload unloaded overloaded
        preempted evicted malformed_response malformed_model_output missing_thought_signature no_image image_other
        other_error engine_error
    """,
}
_STEMS: Final = (
    # What a longer word is about, in the order in which they are looked for.
    (
        "content_filter",
        "filter safe blocked prohibit sensitive refus policy moderat guardrail harm toxic censor",
    ),
    (
        "length",
        "maxtoken maxnewtoken maxlen maxseq tokenlimit lengthlimit contextl contextw contexto truncat toolong",
    ),
    ("tool_calls", "toolcall tooluse functioncall"),
    (
        "error",
        "error abort cancel fail exception outofmemory killed disconnect unavailable overload interrupt byuser",
    ),
)
_NOT_GIVEN: Final = frozenset(("none", "null", "nil", "nan", "na", "unspecified", "unset", "undefined"))
"""The reasons of a server that gives none: what came is taken as whole, unless its length says otherwise."""
_PREFIX: Final = re.compile(r"^(?:finishreason|stopreason|reason|finish)(?=.)")


def _squashed(word: str) -> str:
    """The word's letters and digits in lower case, without the name of the enumeration that it is of."""
    word = word.strip().rstrip(".").lower()
    return re.sub(r"[^a-z0-9]", "", word.rpartition(".")[2])


_KNOWN: Final[Mapping[str, str]] = {
    _squashed(word): ending for ending, words in _TABLE.items() for word in words.split()
}
_GEMINI: Final[Mapping[str, str]] = {
    # The numbers of Gemini's enumeration, which its protobuf client writes; 0 is "unspecified".
    "0": "",
    "1": "stop",
    "2": "max_tokens",
    "3": "safety",
    "4": "recitation",
    "6": "language",
    "7": "blocklist",
    "8": "prohibited_content",
    "9": "spii",
    "10": "malformed_function_call",
    "11": "image_safety",
}
MAX_WORD: Final = 40
"""Characters that are kept of a reason that nobody knows."""


def ending(given: object, own: Mapping[str, str] = MappingProxyType({})) -> str:
    """How a response ended: an `Ending`, or the reason itself, in lower case, where it is not known.

    Args:
        given: what a server or a row says: text, nothing, Gemini's number, or an object that names its type.
        own: what words mean there, as the run file has them.
    """
    if isinstance(given, Mapping):  # SGLang's own API, TGI's details, OpenAI's former `finish_details`
        named = (given.get(key) for key in ("type", "reason", "finish_reason"))
        given = next((word for word in named if word is not None), dict(given) or None)
    word = "" if given is None else str(given).strip()
    if word.removesuffix(".0") in _GEMINI:
        word = _GEMINI[word.removesuffix(".0")]
    if not is_given(word):
        return "stop"
    squashed = _squashed(word)
    for name, meant in own.items():
        if name.strip().lower() == word.lower():
            return meant
    known = _KNOWN.get(squashed) or _KNOWN.get(_PREFIX.sub("", squashed))
    stem = next((end for end, stems in _STEMS if any(stem in squashed for stem in stems.split())), None)
    return known or stem or one_line(word.lower(), MAX_WORD)


def is_given(given: object) -> bool:
    """Whether a server or a row says how the response ended at all."""
    word = "" if given is None else str(given).strip()
    return bool(word) and (_PREFIX.sub("", _squashed(word)) or word) not in _NOT_GIVEN


ENDINGS: Final = frozenset((*_TABLE, "too_long"))
"""All that `Response.finish_reason` can be but for reasons that nobody knows."""
