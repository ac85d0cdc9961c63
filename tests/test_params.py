"""The text of params: every value comes back, and objects are known by a stable word."""

import enum
import functools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.records import params

NAMES = st.text(min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.text(max_size=20), max_size=4))
def test_any_params_come_back(values):
    joined = params.join(values)
    assert params.split(joined) == values
    # One line of one CSV field, whatever a value holds.
    assert joined == " ".join(joined.split(" ")) == joined.strip()
    assert joined.isascii() or "\n" not in joined


@given(
    st.dictionaries(NAMES, st.text(max_size=6), max_size=3),
    st.dictionaries(NAMES, st.text(max_size=6), max_size=3),
)
def test_different_params_have_different_texts(one, other):
    assert (params.join(one) == params.join(other)) == (one == other)


def test_ordinary_params_look_as_before():
    assert params.join({"n": 16, "dim": 0, "form": "in_place"}) == "dim=0;form=in_place;n=16"
    assert params.split("") == {}
    assert params.join({"text": "a;b=c"}) == "text=a%3Bb%3Dc"


class Colour(enum.Enum):
    RED = 1


class Act(torch.nn.Module):
    pass


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (16, "16"),
        (0.5, "0.5"),
        (True, "True"),
        (None, "None"),
        ("relu", "relu"),
        (Colour.RED, "Colour.RED"),
        (torch.float16, "float16"),
        (torch.device("cuda", 1), "cuda:1"),
        (torch.relu, "relu"),
        (torch.nn.functional.gelu, "gelu"),
        (torch.nn.ReLU, "ReLU"),
        ((64, 128), "(64,128)"),
        ([torch.float32, "x"], "(float32,x)"),
        (Act(), None),
        (lambda x: x, None),
        (functools.partial(torch.relu), None),
        ([Act()], None),
        ("x" * 300, None),
        (list(range(3000)), None),
    ],
)
def test_words_of_values(value, word):
    assert params.word(value) == word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("UNSERIALIZABLE[torch.float16]", "float16"),
        ("UNSERIALIZABLE[device(type='cuda', index=0)]", "cuda:0"),
        ("UNSERIALIZABLE[device(type='cpu')]", "cpu"),
        ("UNSERIALIZABLE[<object object at 0x7f3a5c>]", None),
        ("UNSERIALIZABLE[Act()]", None),
        ("<function relu at 0x7f3a5c>", None),
        ("torch.bfloat16", "bfloat16"),
        ("a text at home", "a text at home"),
    ],
)
def test_words_of_what_json_made_of_values(text, word):
    assert params.word(text) == word


@pytest.mark.parametrize("value", [16, 0.5, "relu", None, True, [64, 128]])
def test_a_value_and_its_json_have_one_word(value):
    assert params.word(json.loads(json.dumps(value))) == params.word(value)
