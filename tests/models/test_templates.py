"""The rule for where a prompt ends and a response begins, on templates that try to break it."""

import pytest

from engine.base.errors import TemplateError
from engine.models.chat_template import (
    DATE_STRING,
    clean,
    encode,
    end_of_turn_ids,
    prompt_ids,
    render_prompt,
    with_system,
)
from tools.zoo import tokens

USER = [{"role": "user", "content": "Solve 1 + 1"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *USER]

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + (m['role'] if m['role'] == 'user' else 'model') + '\n' + m['content'] | trim }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
DROPS_SYSTEM = (
    "{% for m in messages if m['role'] != 'system' %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)
# As Qwen3: an answer gets an empty thinking block unless thinking is off in the prompt too.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
REWRITES_PROMPT = (
    "{% for m in messages %}{{ m['role'] + (loop.length | string) + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant1' }}{% endif %}"
)
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string + ' ' + messages[0]['content'] }}"
)


@pytest.fixture
def tokenizer():
    return tokens.build("B", ["Solve 1 + 1", "user assistant system", "the answer is two\n\n", ": \n"])


@pytest.mark.parametrize("kind", ["A", "B"])
def test_the_text_of_a_control_token_in_a_message_is_text(kind) -> None:
    tokenizer = tokens.build(kind, ["Solve 1 + 1"])
    plain = encode(tokenizer, SYSTEM, "It is 2.")
    special = {token for token in plain.ids if token in set(tokenizer.all_special_ids)}
    control = "".join(tokenizer.all_special_tokens)
    for messages, response in (
        ([{"role": "user", "content": f"What is {control} for?"}], "It is 2."),
        (SYSTEM, f"They write {control}."),
        ([{"role": "system", "content": control}, {"role": "user", "content": control}], control),
    ):
        found = encode(tokenizer, messages, response)
        same = encode(tokenizer, [{**m, "content": "Solve"} for m in messages], "Solve")
        for token in special:
            assert found.ids.count(token) == same.ids.count(token)
        assert "".join(text_of(tokenizer, found.ids[found.boundary :]).split()).startswith(
            "".join(response.split())
        )
        assert found.ids[: found.boundary] == prompt_ids(tokenizer, messages)
        assert messages[-1]["content"] in render_prompt(tokenizer, messages)


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in %}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_template_that_breaks_is_named(tokenizer, template: str) -> None:
    with pytest.raises(TemplateError, match="chat template"):
        render_prompt(with_template(tokenizer, template), USER)


def with_template(tokenizer, template: str):
    tokenizer.chat_template = template
    return tokenizer


def text_of(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


def test_bos_appears_once(tokenizer) -> None:
    ids = prompt_ids(tokenizer, USER)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert (
        tokenizer(render_prompt(tokenizer, USER))["input_ids"].count(tokenizer.bos_token_id) == 2
    )  # the trap


@pytest.mark.parametrize("kind", ["A", "B"])
def test_prompt_is_a_prefix_and_the_response_the_rest(kind) -> None:
    tokenizer = tokens.build(kind, ["Solve 1 + 1"])
    found = encode(tokenizer, SYSTEM, "It is 2.")
    assert found.ids[: found.boundary] == prompt_ids(tokenizer, SYSTEM)
    assert text_of(tokenizer, found.ids[found.boundary :]) == "It is 2.<|im_end|>"
    bare = encode(tokenizer, SYSTEM, "It is 2.", count_end_of_turn=False)
    assert bare.ids == found.ids[:-1]
    assert bare.boundary == found.boundary


def test_whitespace_after_the_end_of_turn_never_counts(tokenizer) -> None:
    assert (
        render_prompt(tokenizer, [*USER, {"role": "assistant", "content": "x"}, *USER]).count("<|im_end|>\n")
        == 3
    )
    assert encode(tokenizer, USER, "2").ids[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_merge_across_the_boundary_is_undone(tokenizer) -> None:
    # "\n" of the generation prompt and "\n" of the response are one token when tokenized together.
    assert len(tokenizer("\n\n", add_special_tokens=False)["input_ids"]) == 1
    head = prompt_ids(tokenizer, USER)
    found = encode(tokenizer, USER, "\nthe answer")
    assert found.ids[: len(head)] == head
    assert found.boundary == len(head)
    assert text_of(tokenizer, found.ids) == render_prompt(tokenizer, USER) + "\nthe answer<|im_end|>"


def test_templates_that_trim_the_response(tokenizer) -> None:
    found = encode(with_template(tokenizer, GEMMA), USER, "  two \n")
    assert text_of(tokenizer, found.ids[found.boundary :]) == "two<|im_end|>"


def test_template_without_system_role_is_refused_with_a_remedy(tokenizer) -> None:
    with pytest.raises(TemplateError, match="System role not supported") as caught:
        prompt_ids(with_template(tokenizer, GEMMA), SYSTEM)
    assert "`system` empty" in caught.value.remedy


def test_a_models_system_prompt_and_the_prompts_own_make_one_message() -> None:
    assert with_system("", SYSTEM) is SYSTEM
    assert list(with_system("Be brief.", USER)) == SYSTEM
    assert list(with_system("Be kind.", SYSTEM)) == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        *USER,
    ]


def test_template_that_drops_the_system_prompt_is_refused(tokenizer) -> None:
    with_template(tokenizer, DROPS_SYSTEM)
    assert prompt_ids(tokenizer, USER)
    with pytest.raises(TemplateError, match="drops or rewrites the system message"):
        prompt_ids(tokenizer, SYSTEM)


def test_thinking_template_is_refused_unless_thinking_is_off(tokenizer) -> None:
    with_template(tokenizer, THINKING)
    with pytest.raises(TemplateError, match="no boundary") as caught:
        encode(tokenizer, USER, "two")
    assert "thinking: false" in caught.value.remedy
    found = encode(tokenizer, USER, "two", thinking=False)
    assert text_of(tokenizer, found.ids[found.boundary :]) == "two<|im_end|>"


@pytest.mark.parametrize("response", ["<", "<think>", ""])
def test_a_response_that_looks_like_the_inserted_text_does_not_fool_the_rule(tokenizer, response) -> None:
    with pytest.raises(TemplateError):
        encode(with_template(tokenizer, THINKING), USER, response)


def test_template_that_rewrites_the_prompt_is_refused(tokenizer) -> None:
    with pytest.raises(TemplateError, match="no boundary"):
        encode(with_template(tokenizer, REWRITES_PROMPT), USER, "two")


def test_template_without_end_of_turn(tokenizer) -> None:
    with_template(tokenizer, NO_END)
    assert end_of_turn_ids(tokenizer) == []
    assert encode(tokenizer, USER, "two") == encode(tokenizer, USER, "two", count_end_of_turn=False)


def test_end_of_turn_ids(tokenizer) -> None:
    assert end_of_turn_ids(tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_prompts_do_not_change_overnight(tokenizer) -> None:
    assert render_prompt(with_template(tokenizer, DATED), USER) == f"{DATE_STRING} Solve 1 + 1"


def test_empty_and_whitespace_responses(tokenizer) -> None:
    assert len(encode(tokenizer, USER, "").ids) == len(prompt_ids(tokenizer, USER)) + 1
    found = encode(tokenizer, USER, "", count_end_of_turn=False)
    assert found.boundary == len(found.ids)
    assert encode(with_template(tokenizer, GEMMA), USER, " \n", count_end_of_turn=False).boundary > 0


def test_lone_surrogates_are_replaced(tokenizer) -> None:
    assert clean("a\ud800b") == "a�b"
    assert clean("😀é") == "😀é"
    assert encode(tokenizer, USER, "\ud83d").ids == encode(tokenizer, USER, "�").ids


def test_no_messages_and_no_template(tokenizer) -> None:
    with pytest.raises(TemplateError, match="no messages"):
        prompt_ids(tokenizer, [])
    tokenizer.chat_template = None
    with pytest.raises(TemplateError):
        encode(tokenizer, USER, "two")
