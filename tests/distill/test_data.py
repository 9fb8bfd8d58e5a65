import numpy as np
import pytest

from engine.base.errors import TrainingError
from engine.distill.data import mask_preview, tokenise

USER = [{"role": "user", "content": "w1 w2"}]


def text(tokenizer, ids):
    return [tokenizer.convert_ids_to_tokens(int(token)) for token in ids]


def test_loss_is_on_the_response_and_its_end_although_pad_is_eos(tokenizer, tmp_path):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    data = tokenise(tokenizer, [(USER, "w3 w4"), (USER, "w5")], tmp_path, 100)
    assert text(tokenizer, data[0].ids) == [
        "<s>",
        "user",
        "w1",
        "w2",
        "</s>",
        "<s>",
        "assistant",
        "w3",
        "w4",
        "</s>",
    ]
    assert data[0].boundary == 7
    assert list(data.lengths) == [10, 9]
    assert list(data.targets) == [3, 2]
    assert text(tokenizer, data[0].ids[data[0].boundary :]) == ["w3", "w4", "</s>"]
    assert text(tokenizer, data[1].ids[data[1].boundary :]) == ["w5", "</s>"]


def test_mask_preview_names_each_token(tokenizer, tmp_path):
    data = tokenise(tokenizer, [(USER, "w3")], tmp_path, 100)
    preview = mask_preview(tokenizer, data[0])
    assert [token for token, in_loss in preview if in_loss] == ["w3", "</s>"]
    assert [token for token, in_loss in preview if not in_loss][:3] == ["<s>", "user", "w1"]


def test_template_without_end_of_turn_gets_eos(make, tmp_path):
    template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    tokenizer = make.tokenizer(template + "{% if add_generation_prompt %}{% endif %}")
    data = tokenise(tokenizer, [(USER, "w3")], tmp_path, 100)
    assert data.eos_appended
    assert text(tokenizer, data[0].ids) == ["w1", "w2", "w3", "</s>"]
    assert data[0].boundary == 2


def test_overlong_rows_are_dropped_cut_or_refused_and_counted(tokenizer, tmp_path):
    long_prompt = [{"role": "user", "content": " ".join(["w1"] * 20)}]
    rows = [(USER, "w3"), (USER, "w4 w4 w4 w4"), (long_prompt, "w5")]  # 9, 12 and 27 tokens
    dropped = tokenise(tokenizer, iter(rows), tmp_path / "a", 9)
    counts = dropped.counts
    assert (counts.rows, counts.kept, counts.dropped, counts.truncated) == (3, 1, 2, 0)
    assert (counts.tokens, counts.target_tokens) == (9, 2)

    cut = tokenise(tokenizer, iter(rows), tmp_path / "b", 9, overlong="truncate")
    counts = cut.counts
    assert (counts.rows, counts.kept, counts.dropped, counts.truncated) == (3, 2, 1, 1)
    assert text(tokenizer, cut[1].ids[cut[1].boundary :]) == ["w4", "w4"]

    with pytest.raises(TrainingError, match="row 2 has 12 tokens") as caught:
        tokenise(tokenizer, iter(rows), tmp_path / "c", 9, overlong="raise")
    assert "distill.max_length" in caught.value.remedy


def test_no_row_left_says_why(tokenizer, tmp_path):
    with pytest.raises(TrainingError, match="1 read, 1 longer than 5 tokens"):
        tokenise(tokenizer, [(USER, "w3")], tmp_path, 5)


def test_rows_are_read_as_a_stream_into_a_mapped_file(make, tokenizer, tmp_path):
    rows = make.rows(300)
    data = tokenise(tokenizer, (row for row in rows), tmp_path, 100)
    assert isinstance(data.tokens, np.memmap)
    assert (tmp_path / "tokens.int32").stat().st_size == 4 * data.counts.tokens
    again = tokenise(tokenizer, rows, tmp_path / "again", 100)
    other = tokenise(tokenizer, rows[:-1], tmp_path / "other", 100)
    assert data.sha256 == again.sha256 != other.sha256
