"""Read a pickle of plain values: arrays, strings, bytes, numbers, lists, tuples, dicts.

Nothing in it is imported or called. The standard library only tells the operations apart
(pickletools.genops); the values are built here. The name of a function is a label to us, and of
three of NumPy's and one of codecs we know what they would have done. Any other is refused.

Source: PEP 307, PEP 3154; NumPy's `ndarray.__reduce__` and `dtype.__reduce__`.
"""

import math
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, Final, NamedTuple, TypeGuard, cast

import numpy as np

from infra.errors import DataError

MAX_OPERATIONS: Final = 1_000_000
"""CIFAR-100 takes some 200,000; each makes one value at most."""
MAX_COPIED_BYTES: Final = 256 << 20
"""Of strings that become arrays' bytes; a pickle may name the same string again and again."""
_NUMBERS: Final = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"))
"""Codes of the dtypes that arrays may have."""
_PLAIN: Final = re.compile(
    "NONE|NEWTRUE|NEWFALSE|INT|BININT[12]?|LONG[14]?|FLOAT|BINFLOAT|(SHORT_)?BINSTRING|STRING"
    "|UNICODE|(SHORT_)?BINUNICODE8?|(SHORT_)?BINBYTES8?|BYTEARRAY8"
)
"""Operations that put their argument on the stack."""
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Name(NamedTuple):
    """A function or class that the pickle names."""

    module: str
    name: str


class _Dtype(NamedTuple):
    """A dtype: its code, such as u1, and its byte order."""

    code: str
    order: str = "="


class _Unbuilt:
    """An array whose content has not come yet, and the memo's numbers of it."""

    def __init__(self) -> None:
        self.memo_keys: list[int] = []


class _Refused(ValueError):
    """The pickle holds something else than plain values."""


def read_plain_pickle(file: IO[bytes], size_bytes: int, where: str) -> Any:  # noqa: ANN401 - it may be any value
    """Build the value of a pickle of any protocol; byte strings of Python 2 become latin-1 text.

    Memory: the file's size, a copy of its largest string, and MAX_OPERATIONS small values.

    Args:
        file: read from its position on.
        size_bytes: what is left of it.
        where: names it in errors.

    Raises:
        DataError: it is no pickle, is cut off, or holds anything but plain values.
    """
    try:
        return _Machine().run(_Clipped(file, size_bytes))
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        reason = str(error) if isinstance(error, _Refused) else f"it is damaged: {error}"
        raise DataError(
            f"{where} is no pickle of plain values: {reason[:300]}",
            remedy="take the file from its official source again; nothing in it was executed",
        ) from error


class _Clipped:
    """A file that is never asked for more than it has: readers make room for all they are asked."""

    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self._file, self._left = file, size_bytes

    def read(self, count: int) -> bytes:
        return self._taken(self._file.read(min(count, self._left)))

    def readline(self) -> bytes:
        return self._taken(self._file.readline(self._left))

    def _taken(self, body: bytes) -> bytes:
        self._left -= len(body)
        return body


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied_bytes = 0

    def run(self, file: "_Clipped") -> Any:  # noqa: ANN401 - it may be any value
        for number, (opcode, arg, _) in enumerate(pickletools.genops(cast("IO[bytes]", file))):
            if number >= MAX_OPERATIONS:
                raise _Refused(f"it has more than {MAX_OPERATIONS:,} operations")
            name = opcode.name
            if _PLAIN.fullmatch(name):
                self._stack.append(_CONSTANTS.get(name, arg))
            elif name not in ("PROTO", "FRAME", "STOP"):
                operation = _OPERATIONS.get(name)
                if operation is None:
                    raise _Refused(f"operation {name} makes no plain value")
                operation(self, arg)
        return self._stack.pop()

    def _mark(self, _: object) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _push_list(self, _: object) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _push_dict(self, _: object) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set(items)

    def _push_tuple(self, _: object) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise _Refused("it appends to what is no list")
        target += items

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        keys, values = items[::2], items[1::2]
        if not isinstance(target, dict) or len(keys) != len(values):
            raise _Refused("it sets items of what is no dictionary")
        # The hash of tuples of tuples of … would take for ever, and so would that of a huge number.
        if not all(isinstance(key, str | bytes) for key in keys):
            raise _Refused("a dictionary's key is no text")
        target.update(zip(keys, values, strict=True))

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("too few values")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _put(self, key: int | None) -> None:
        value = self._stack[-1]
        key = len(self._memo) if key is None else key
        if isinstance(value, _Unbuilt):
            value.memo_keys.append(key)
        self._memo[key] = value

    def _get(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def _global(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self._stack.append(_Name(module, name))

    def _stack_global(self, _: object) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("a name is no text")
        self._stack.append(_Name(module, name))

    def _reduce(self, _: object) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _Refused("it calls what is no name")
        match (function.module.replace("numpy._core", "numpy.core"), function.name, arguments):
            case ("numpy.core.multiarray", "_reconstruct", (_Name(name="ndarray"), _, _)):
                self._stack.append(_Unbuilt())
            case ("numpy", "dtype", (str(code), *_)) if code in _NUMBERS:
                self._stack.append(_Dtype(code))
            case ("numpy.core.numeric", "_frombuffer", (body, _Dtype() as dtype, shape, order)):
                self._stack.append(self._array(body, dtype, shape, order == "F"))
            case ("_codecs", "encode", (str(text), "latin1" | "latin-1")):
                self._stack.append(self._encoded(text))
            case _:
                raise _Refused(f"it asks for {function.module}.{function.name}")

    def _build(self, _: object) -> None:
        target, state = self._pop(2)
        match target, state:
            case _Dtype(), (int(), "<" | ">" | "|" | "=" as order, None, None, None, *_):
                self._stack.append(target._replace(order=order))
            case _Unbuilt(), (int(), shape, _Dtype() as dtype, is_fortran, body):
                array = self._array(body, dtype, shape, bool(is_fortran))
                for key in target.memo_keys:
                    self._memo[key] = array
                self._stack.append(array)
            case _:
                raise _Refused("it gives a state to what has none, or one that is not plain")

    def _array(self, body: object, dtype: _Dtype, shape: object, is_fortran: bool) -> Any:  # noqa: ANN401 - of any dtype
        if isinstance(body, str):
            body = self._encoded(body)
        kind = np.dtype(dtype.order.replace("|", "=") + dtype.code)
        if not isinstance(body, bytes | bytearray) or not _is_shape(shape):
            raise _Refused("an array's content is not plain")
        if math.prod(shape) * kind.itemsize != len(body):
            raise _Refused(f"an array of shape {shape} has {len(body):,} bytes")
        return np.frombuffer(body, kind).reshape(shape, order="F" if is_fortran else "C")

    def _encoded(self, text: str) -> bytes:
        self._copied_bytes += len(text)
        if self._copied_bytes > MAX_COPIED_BYTES:
            raise _Refused(f"its arrays have more than {MAX_COPIED_BYTES:,} bytes")
        return text.encode("latin-1")


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    """Whether it is a tuple of few small numbers."""
    return (
        isinstance(shape, tuple)
        and len(shape) <= 8
        and all(isinstance(side, int) and 0 <= side <= MAX_COPIED_BYTES for side in shape)
    )


_OPERATIONS: Final[Mapping[str, Callable[[_Machine, Any], None]]] = {
    "MARK": _Machine._mark,
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine._stack.append(()),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "LIST": _Machine._push_list,
    "TUPLE": _Machine._push_tuple,
    "DICT": _Machine._push_dict,
    "TUPLE1": lambda machine, _: machine._stack.append(tuple(machine._pop(1))),
    "TUPLE2": lambda machine, _: machine._stack.append(tuple(machine._pop(2))),
    "TUPLE3": lambda machine, _: machine._stack.append(tuple(machine._pop(3))),
    "APPEND": lambda machine, _: machine._append(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
    "SETITEM": lambda machine, _: machine._set(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set(machine._since_mark()),
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._put,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}
