import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.canonical import canonical_json, digest_of, sha256_hex

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


def test_the_form_is_pinned() -> None:
    # Every key and receipt digest in every workspace depends on these bytes.
    value = {"b": [1, 2.5, 1e-07, True, None], "a": "é\n"}
    assert canonical_json(value) == '{"a":"é\\n","b":[1,2.5,1e-07,true,null]}'.encode()
    assert digest_of({"a": 1}) == (
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )


def test_the_order_of_names_does_not_matter() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": value})


@given(PLAIN)
def test_what_is_written_reads_back_to_the_same_bytes(value: Any) -> None:
    import json

    body = canonical_json(value)
    assert canonical_json(json.loads(body)) == body


def test_bytes_and_views_have_one_digest() -> None:
    assert sha256_hex(b"abc") == sha256_hex(memoryview(b"abc"))
    assert sha256_hex(b"abc").startswith("ba7816bf")
