import hashlib
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreError
from storage.hashing import sha
from storage.text import clean, dump_json


def test_nul_and_lone_surrogates_become_the_replacement_character() -> None:
    assert clean("a\x00b\ud800c\udfffd") == "a\ufffdb\ufffdc\ufffdd"


def test_every_other_character_is_kept() -> None:
    kept = "tab\t newline\n esc\x1b bidi\u202e emoji 🙂 combining e\u0301 \uffff"
    assert clean(kept) is kept


@given(st.text(alphabet=st.characters(codec=None)))
def test_cleaned_text_can_always_be_encoded_and_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean(text)
    once.encode()
    assert "\x00" not in once
    assert clean(once) == once
    assert len(once) == len(text)


def test_json_is_cleaned_in_keys_and_values_at_every_depth() -> None:
    assert (
        dump_json({"a\x00": ["\ud800", {"b": "ok\\u0000"}]}) == '{"a\ufffd":["\ufffd",{"b":"ok\\\\u0000"}]}'
    )


def test_hash_does_not_depend_on_the_order_of_keys_and_is_sha256_of_canonical_json() -> None:
    assert sha({"b": 1, "a": [True, None, "é"]}) == sha({"a": [True, None, "é"], "b": 1})
    assert sha({"b": 1, "a": 2.5}) == hashlib.sha256(b'{"a":2.5,"b":1}').hexdigest()


def test_values_that_differ_have_different_hashes() -> None:
    assert len({sha(value) for value in (1, 1.0, "1", [1], {"1": 1}, None, True)}) == 7


@dataclass
class Point:
    x: int
    y: int


def test_mappings_and_dataclasses_hash_like_the_dictionaries_they_are() -> None:
    assert sha({"p": Point(1, 2)}) == sha(MappingProxyType({"p": MappingProxyType({"x": 1, "y": 2})}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, {"a": b"bytes"}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(StoreError, match="cannot be stored as JSON"):
        sha({"value": value})


def test_nan_beside_hostile_text_is_refused_too() -> None:
    with pytest.raises(StoreError):
        dump_json({"a": "\ud800", "b": float("nan")})
