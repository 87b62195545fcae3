import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from preprocessing.sources.mat_file import MAX_UNPACKED_BYTES, read_structs

FIELDS = ("number", "text", "several", "nested")


def mat(compressed: bool = False, **structs: Any) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, structs, do_compression=compressed)
    return out.getvalue()


def structs(*rows: tuple[Any, ...]) -> Any:
    return np.array([[row] for row in rows], dtype=[(field, object) for field in FIELDS])


ROWS = structs(
    (1, "tench, größe", [1, 2], {"a": {"b": 1}}),
    (-70_000, "日本", [], [["cells"], [["in", "cells"]]]),
    (2.5, "x", 1, "y"),
)


@pytest.mark.parametrize("compressed", [False, True])
def test_texts_and_numbers_are_read_all_else_is_none(compressed: bool) -> None:
    body = mat(compressed, other=np.arange(100), synsets=ROWS)
    found = read_structs(body, "synsets", FIELDS)
    assert found == [
        {"number": 1, "text": "tench, größe", "several": None, "nested": None},
        {"number": -70_000, "text": "日本", "several": None, "nested": None},
        {"number": 2.5, "text": "x", "several": 1, "nested": "y"},
    ]
    assert read_structs(body, "synsets", ("text",))[2] == {"text": "x"}


def test_the_genuine_file_is_read_as_scipy_reads_it(shared_data: Path) -> None:
    path = shared_data / "ilsvrc-devkit-official" / "meta.mat"
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "wordnet_height")
    found = read_structs(path.read_bytes(), "synsets", fields)
    expected = scipy.io.loadmat(str(path), squeeze_me=True)["synsets"]
    assert len(found) == len(expected) > 1000
    for ours, theirs in zip(found, expected, strict=True):
        assert all(ours[field] == theirs[field] for field in fields)


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, name: bytes, rest: bytes, order: str = "<", side: int = 1) -> bytes:
    head = (
        element(6, struct.pack(f"{order}II", kind, 0), order)
        + element(5, struct.pack(f"{order}ii", 1, side), order)
        + element(1, name, order)
    )
    return element(14, head + rest, order)


def file_of(body: bytes, order: bytes = b"IM") -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\0\1" + order + body


def a_struct(value: bytes, order: str = "<", side: int = 1) -> bytes:
    names = element(5, struct.pack(f"{order}i", 8), order) + element(
        1, b"number".ljust(8, b"\0"), order
    )
    return matrix(2, b"synsets", names + value, order, side)


def test_big_endian_files_are_read() -> None:
    number = matrix(6, b"", element(3, struct.pack(">h", -300), ">"), ">")
    body = file_of(a_struct(number, ">"), b"MI")
    assert read_structs(body, "synsets", ("number",)) == [{"number": -300}]


NUMBER = matrix(6, b"", element(9, struct.pack("<d", 1.0)))
SOUND = file_of(a_struct(NUMBER))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "no MATLAB 5 file"),
        (SOUND[:127], "no MATLAB 5 file"),
        (SOUND[:130], "damaged"),
        (SOUND[:-1], "an element has 144 bytes, and 143 are left"),
        (file_of(b""), "no structs 'synsets'"),
        (mat(synsets=[1, 2, 3]), "no structs 'synsets'"),
        (mat(other=ROWS), "no structs 'synsets'"),
        (file_of(a_struct(NUMBER, side=1 << 30)), "values are not those of"),
        (file_of(a_struct(NUMBER, side=-1)), "values are not those of"),
        (file_of(a_struct(b"")), "values are not those of"),
        (file_of(element(14, element(6, bytes(8)))), "an element is missing"),
        (file_of(element(15, b"nothing that was packed")), "damaged"),
        (file_of(struct.pack("<II", 14, 0xFFFFFFF8)), "an element has 4,294,967,288 bytes"),
        (file_of(struct.pack("<II", 14 | 9 << 16, 0)), "an element has 9 bytes"),
    ],
)
def test_a_damaged_file_is_a_value_error(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_structs(body, "synsets", ("number",))


def test_a_packed_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(MAX_UNPACKED_BYTES >> 20))
    bomb = file_of(element(15, packed + packer.flush()))
    assert len(bomb) < MAX_UNPACKED_BYTES >> 9
    with pytest.raises(ValueError, match="unpacks to more than 67,108,864 bytes"):
        read_structs(bomb, "synsets", ("number",))


def test_cells_in_cells_are_not_followed() -> None:
    """A reader that recurs would run out of stack."""
    nested = b""
    for _ in range(300):
        nested = matrix(1, b"", nested)
    assert read_structs(file_of(a_struct(nested)), "synsets", ("number",)) == [{"number": None}]
