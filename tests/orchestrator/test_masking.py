import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.masking import Masker

KEY = "sk-canary/0+Z=='\"%é\\x"
MASKER = Masker({"THE_KEY": KEY, "SHORT": "abc"})


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        quote(KEY, safe=""),
        KEY.encode().hex(),
        KEY.replace("\\", "\\\\").replace('"', '\\"'),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(b"u:" + KEY.encode() + b":x").decode(),
        base64.b64encode(b"use" + KEY.encode()).decode(),
        base64.urlsafe_b64encode(b"user" + KEY.encode() + b"more").decode(),
    ],
)
def test_every_form_of_a_secret_is_masked(shown):
    masked = MASKER.text(f"before {shown} after")
    assert "[THE_KEY]" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


def test_what_is_no_secret_is_left_alone():
    for text in ("abc", "", "sk-canary", "[THE_KEY]", "\ud800"):
        assert MASKER.text(text) == text
    assert not Masker({"SHORT": "abc"})
    value = {"a": [1, None, "x"]}
    assert MASKER.value(value) is value


def test_values_are_masked_in_strings_and_in_keys():
    value = {"a": ["x", {KEY: f"<{KEY}>"}], "n": 1.5}
    assert MASKER.value(value) == {"a": ["x", {"[THE_KEY]": "<[THE_KEY]>"}], "n": 1.5}


@given(st.lists(st.sampled_from([KEY, "sk-", "noise ", "\n"]), max_size=8), st.data())
def test_a_secret_is_found_wherever_its_pieces_are_cut(words, data):
    whole = "".join(words).encode()
    stream, got = MASKER.stream(), b""
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        got += stream.feed(whole[:size])
        whole = whole[size:]
    assert got + stream.end() == MASKER.data("".join(words).encode())


def test_nothing_that_can_t_be_a_secret_is_held_back():
    assert MASKER.stream().feed(b"a line\n") == b"a line\n"
    assert Masker().stream().feed(b"anything") == b"anything"
