import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.settings.yaml_text import dump_yaml, parse_yaml

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["5e-5", "no", "null", "~", "12:30", "0x10", ".inf", "1.", "=", "<<", "2024-01-01", " ", "\x85"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("+5", 5),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("12:30", "12:30"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("", None),
        ("~", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("{1: a}", {"1": "a"}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_nan_is_a_number():
    assert math.isnan(parse_yaml(".nan"))


def _bomb(levels: int) -> str:
    lines = ["l0: &l0 x", *(f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * 9)}]" for at in range(1, levels + 1))]
    return "\n".join(lines)


def test_aliases_that_repeat_little_and_long_texts_without_any_are_read():
    assert parse_yaml(_bomb(2))["l2"] == [["x"] * 9] * 9
    assert len(parse_yaml("- word\n" * 30_000)) == 30_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"'a' is there twice \(line 3, column 1\)"),
        ("&a [*a]", "contains itself"),
        ("!!python/object/apply:os.system [x]", "tag"),
        ("!!int x", "tag"),
        ("[1, 2", "line 1"),
        ("{[a]: 1}", "key must be text"),
        ('"\\ud800"', "half of a character"),
        ("--- 1\n--- 2", "another document"),
        ("a\x00", "special characters"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ("[" * 500, "nested too deeply"),
        ("9" * 5000, "limit"),
        (_bomb(10), r"aliases repeat more than 100,000 values and characters \(line"),
        (f"- &a {'x' * 10_000}\n" + "- *a\n" * 11, "aliases repeat more than"),
    ],
)
def test_anything_but_plain_data_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


@given(plain)
@settings(max_examples=150, deadline=None)
def test_what_is_dumped_reads_back_equal(value):
    assert parse_yaml(dump_yaml(value)) == value


@given(st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_parses_or_is_a_value_error(text):
    with contextlib.suppress(ValueError):
        parse_yaml(text)
