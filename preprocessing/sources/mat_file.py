"""Texts and numbers of one array of structs in a MATLAB 5 file: all that the devkit needs of it.

Not SciPy's reader, which was written for files one trusts: it follows nested cells by recursion,
takes the sizes that a file claims, and ends broken ones with errors of any class. Here nothing is
nested, and nothing is larger than its bytes.

Source: MathWorks, MAT-File Format, "Level 5": a header of 128 bytes, then elements, each a tag of
two words (type, bytes) and data padded to 8 bytes; up to 4 bytes of data may stand in the tag.
"""

import struct
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

MAX_UNPACKED_BYTES: Final = 64 << 20
_HEADER_BYTES: Final = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCTS, _LETTERS = 2, 4
"""Classes of a matrix; from 6 on they are numbers."""
_DTYPES: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_ENCODINGS: Final = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The head of a matrix; the rest are elements that depend on its class."""

    kind: int
    dimensions: tuple[int, ...]
    name: str
    rest: "_Elements"


def read_structs(
    body: bytes, name: str, fields: Container[str]
) -> list[Mapping[str, str | float | None]]:
    """Read some fields of every struct of the array that has a name, in MATLAB's order.

    Returns:
        By field: text, or a number; None for what is neither, or is several numbers.

    Raises:
        ValueError: it is no such file, is damaged, or has no such array.
    """
    order = {b"IM": "<", b"MI": ">"}.get(body[126:_HEADER_BYTES])
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    try:
        for kind, data in _Elements(_unpacked(body[_HEADER_BYTES:], order), order):
            matrix = _matrix(data, order) if kind == _MATRIX else None
            if matrix and matrix.name == name and matrix.kind == _STRUCTS:
                return list(_structs(matrix, order, fields))
    except (struct.error, zlib.error) as error:
        raise ValueError(f"it is damaged: {error}") from error
    raise ValueError(f"it has no structs {name!r}")


class _Elements(Iterator[tuple[int, bytes]]):
    """The elements in some bytes, one after the other: type and data."""

    def __init__(self, body: bytes, order: str) -> None:
        self._body, self._order, self._place = body, order, 0

    def __next__(self) -> tuple[int, bytes]:
        if self._place >= len(self._body):
            raise StopIteration
        kind, size = struct.unpack_from(f"{self._order}II", self._body, self._place)
        start, step = self._place + 8, -(-size // 8) * 8
        if kind >> 16:  # data in the tag
            kind, size, start, step = kind & 0xFFFF, kind >> 16, self._place + 4, 0
        data = self._body[start : start + size]
        if len(data) < size or (not step and size > 4):
            raise ValueError(f"an element has {size:,} bytes, and {len(data):,} are left")
        self._place = self._place + 8 + (size if kind == _COMPRESSED else step)
        return kind, data

    def take(self) -> tuple[int, bytes]:
        """Return the next element, which has to be there."""
        element = next(self, None)
        if element is None:
            raise ValueError("an element is missing")
        return element


def _unpacked(body: bytes, order: str) -> bytes:
    """Unpack the compressed elements; their data are elements themselves."""
    out, room = [], MAX_UNPACKED_BYTES
    for kind, data in _Elements(body, order):
        if kind == _COMPRESSED:
            element = zlib.decompressobj().decompress(data, room)
        else:
            element = struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)
        out.append(element)
        room -= len(element)
        if room <= 0:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
    return b"".join(out)


def _matrix(data: bytes, order: str) -> _Matrix | None:
    """Read a matrix's head; None of an empty one."""
    if not data:
        return None
    rest = _Elements(data, order)
    (_, flags), (_, dimensions), (_, name) = rest.take(), rest.take(), rest.take()
    (flag,) = struct.unpack_from(f"{order}I", flags)
    sides = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    return _Matrix(flag & 0xFF, sides, name.decode("latin-1"), rest)


def _structs(
    matrix: _Matrix, order: str, fields: Container[str]
) -> Iterator[Mapping[str, str | float | None]]:
    (_, length), (_, names) = matrix.rest.take(), matrix.rest.take()
    (step,) = struct.unpack(f"{order}i", length)
    if step < 1:
        raise ValueError(f"its fields' names have {step} letters")
    found = [
        names[start : start + step].partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(names), step)
    ]
    values = [value for _, value in matrix.rest]
    if not found or len(values) != len(found) * np.prod(matrix.dimensions, dtype=object):
        raise ValueError(f"{len(values)} values are not those of {matrix.dimensions} structs")
    for start in range(0, len(values), len(found)):
        yield {
            field: _value(values[start + i], order)
            for i, field in enumerate(found)
            if field in fields
        }


def _value(data: bytes, order: str) -> str | float | None:
    matrix = _matrix(data, order)
    if matrix is None or matrix.kind < _LETTERS or matrix.kind == _LETTERS + 1:
        return None
    kind, values = matrix.rest.take()
    if matrix.kind == _LETTERS:
        encoding = _ENCODINGS.get(kind, "")
        if encoding == "utf-16":
            encoding += "-le" if order == "<" else "-be"
        return values.decode(encoding) if encoding else None
    numbers: Sequence[float] = np.frombuffer(values, order + _DTYPES.get(kind, "u1")).tolist()
    return numbers[0] if len(numbers) == 1 and kind in _DTYPES else None
