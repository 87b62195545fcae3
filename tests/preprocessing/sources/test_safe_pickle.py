import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from preprocessing.sources.safe_pickle import MAX_OPERATIONS, read_plain_pickle

PLAIN: dict[str, Any] = {
    "text": "größe",
    "bytes": b"\x00\xff",
    "numbers": [0, 255, 70_000, -1, 1 << 40, 1.5, True, None],
    "nested": ([(), ("a",), ("a", "b"), ("a", "b", "c", "d")], {"b": {}}),
    "array": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "numbers too": np.arange(6, dtype=">i4").reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def read(body: bytes) -> Any:
    return read_plain_pickle(io.BytesIO(body), len(body), "batch")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_read(protocol: int) -> None:
    found = read(pickle.dumps(PLAIN, protocol))
    assert found.keys() == PLAIN.keys()
    for name, expected in PLAIN.items():
        if isinstance(expected, np.ndarray):
            assert found[name].dtype == expected.dtype
            assert np.array_equal(found[name], expected)
        else:
            assert found[name] == expected


def test_an_array_that_stands_twice_is_read_twice() -> None:
    array = np.arange(3, dtype=np.uint8)
    found = read(pickle.dumps([array, array], 2))
    assert [one.tolist() for one in found] == [[0, 1, 2], [0, 1, 2]]


def test_byte_strings_of_python_2_are_latin_1() -> None:
    # {'data_é': 'ÿ'} as Python 2 wrote it
    body = b"\x80\x02}(U\x06data_\xe9U\x01\xffu."
    assert read(body) == {"data_é": "ÿ"}


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_by_name_and_not_made(protocol: int, tmp_path: Path) -> None:
    body = pickle.dumps({"data": Runs(tmp_path / "made")}, protocol)
    with pytest.raises(DataError, match=r"asks for posix\.mkdir"):
        read(body)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "damaged"),
        (b"<html>", "damaged"),
        (b"\x80\x02}(U\x04data", "damaged"),
        (b"\x80\x02cbuiltins\neval\n(U\x011tR.", r"asks for builtins\.eval"),
        (b"\x80\x02cos\nsystem\nU\x04true\x81.", "NEWOBJ makes no plain value"),
        (b"(U\x04trueios\nsystem\n.", "INST makes no plain value"),
        (b"P123\n.", "PERSID makes no plain value"),
        (b"\x82\x01.", "EXT1 makes no plain value"),
        (b"]U\x01a}b.", "gives a state to what has none"),
        (b"N(U\x01atR.", "calls what is no name"),
        (b"})U\x01as.", "a dictionary's key is no text"),
        (b"NNa.", "appends to what is no list"),
        (b"NNNs.", "no dictionary"),
        (b"(U\x01ad.", "no dictionary"),
        (b"h\x05.", "damaged"),
        (b"s.", "damaged"),
        (b"u.", "damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR.", r"asks for numpy\.dtype"),
        (b"cnumpy\ndtype\n(U\x0999999999uK\x00K\x01tR.", r"asks for numpy\.dtype"),
        (b"T\xff\xff\xff\x7fshort.", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fshort.", "damaged"),
        (b"\x8b\xff\xff\xff\x7fshort.", "damaged"),
        (b"Nr\xff\xff\xff\xff0.", "POP makes no plain value"),
    ],
)
def test_what_is_not_plain_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=f"batch is no pickle of plain values: .*{problem}"):
        read(body)


class Greedy(io.BytesIO):
    """Makes room for all it is asked for, as files do that are read through a buffer."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size < 1000
        return super().read(size)


@pytest.mark.parametrize("operation", [b"T", b"X", b"B", b"\x8b"])
def test_no_room_is_made_for_a_claimed_size(operation: bytes) -> None:
    body = operation + b"\xff\xff\xff\x7fshort."
    with pytest.raises(DataError, match="damaged"):
        read_plain_pickle(Greedy(body), len(body), "batch")


def array_of(shape: bytes, body: bytes) -> bytes:
    """A pickle of an array whose state is as given."""
    return b"".join(
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR",
            b"(K\x01" + shape + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff",
            b"\xffJ\xff\xff\xff\xffK\x00tb\x89" + body + b"tb.",
        )
    )


def test_an_array_has_as_many_bytes_as_its_shape_says() -> None:
    assert read(array_of(b"K\x02\x85", b"U\x02ab")).tolist() == [97, 98]
    for shape, body in (
        (b"K\x03\x85", b"U\x02ab"),
        (b"J\xff\xff\xff\xff\x85", b"U\x02ab"),
        (b"J\xff\xff\xff\x7f\x85", b"U\x02ab"),
        (b"K\x02", b"U\x02ab"),
        (b"K\x02\x85", b"]"),
        (b"K\x01\x85", b"X\x02\x00\x00\x00\xc4\x80"),  # a letter that is no byte
    ):
        with pytest.raises(DataError):
            read(array_of(shape, body))


def traced(body: bytes) -> tuple[str, int]:
    """Read a pickle: the error it ends with, and the most bytes there were meanwhile."""
    tracemalloc.start()
    try:
        read(body)
        problem = ""
    except DataError as error:
        problem = error.problem
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return problem, peak


def test_lists_of_lists_of_lists_are_never_gone_through() -> None:
    lists = (b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(200))
    problem, peak = traced(b"]q\x00" + b"".join(lists) + b".")
    assert problem == ""
    assert peak < 1 << 20


def test_a_string_that_is_encoded_again_and_again_is_refused() -> None:
    text = b"T" + struct.pack("<i", 1 << 24) + b"x" * (1 << 24)
    encoded = b"c_codecs\nencode\nq\x01" + text + b"U\x06latin1\x86q\x02]("
    problem, peak = traced(encoded + b"h\x01h\x02R" * 50 + b"e.")
    assert "its arrays have more than 268,435,456 bytes" in problem
    assert peak < 300 << 20


def test_a_program_without_end_is_refused() -> None:
    with pytest.raises(DataError, match=f"more than {MAX_OPERATIONS:,} operations"):
        read(b"N" * (MAX_OPERATIONS + 1) + b".")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(body: bytes) -> None:
    for prefix in (b"", b"\x80\x02}(", b"\x80\x04\x95"):
        try:
            read(prefix + body + b".")
        except DataError:
            continue


def test_every_operation_is_known_to_be_plain_or_refused() -> None:
    """A new protocol's operations are refused until someone looks at them."""
    names = {opcode.name for opcode in pickletools.opcodes}
    refused = set()
    for name in names:
        opcode = next(one for one in pickletools.opcodes if one.name == name)
        try:
            read(opcode.code.encode("latin-1") + bytes(16) + b"\n\n.")
        except DataError as error:
            if "makes no plain value" in str(error):
                refused.add(name)
    assert refused >= {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "DUP"}
    assert not refused & {"BINSTRING", "REDUCE", "GLOBAL", "BUILD"}
