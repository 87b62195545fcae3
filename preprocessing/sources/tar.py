"""The headers of a tar, one after the other: where each member's bytes lie. Nothing is unpacked.

Not the standard library's tarfile: it reads names and pax records of any claimed size into memory,
follows chains of them by recursion, and passes over a cut header or garbage after a member in
silence. Here a header costs bounded memory, and what is no plain file is refused by name; so is
what follows the end: a hole over a header looks like one.

Source: POSIX.1-2017, pax (ustar and pax interchange formats); GNU tar manual, "Basic Tar Format".
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, NoReturn

from infra.store import ObjectStore, RangeFile
from preprocessing.errors import ArchiveCorrupt
from preprocessing.sources.names import is_utf8

BLOCK: Final = 512
_ZEROS: Final = bytes(BLOCK)
_MAX_NAME_BYTES: Final = 64 << 10
"""Of a GNU long name; no file system's paths have more than some thousand."""
_MAX_PAX_BYTES: Final = 1 << 20
_MAX_PADDING_BYTES: Final = 16 << 20
"""Behind the end: a tar is written in whole records, of 10 KiB, for tapes of a megabyte or so."""
_PIECE_BYTES: Final = 1 << 20
_NO_SIZE: Final = -1
_WITHOUT_DATA: Final = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders, pipes: a size in their headers means nothing."""
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_DECIMAL: Final = re.compile(rb"\d{1,19}")
_PAX_LENGTH: Final = re.compile(rb"(\d{1,7}) ")
_AGAIN: Final = "download the archive again, and compare its MD5 with the published one"
_NOT_OFFICIAL: Final = "this is not an official archive: make it again from plain files"


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file in a tar: its bytes are start (inclusive) to start + size_bytes of the object."""

    name: str
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Header:
    """One block of 512 bytes."""

    kind: bytes
    name: str
    size_bytes: int


@dataclass(slots=True)
class _Said:
    """What GNU and pax headers said of the member that follows them."""

    name: str | None = None
    size_bytes: int | None = None
    sparse: bool = False


def walk_tar(
    store: ObjectStore,
    key: str,
    start: int,
    stop: int,
    inner: str | None = None,
    *,
    read_ahead_bytes: int | None = None,
) -> Iterator[TarMember]:
    """Yield the files of the tar in bytes start to stop of an object, in archive order.

    Args:
        inner: name of that tar, when it is itself a member of the object.
        read_ahead_bytes: as RangeFile's.

    Raises:
        ArchiveCorrupt: it is no tar, is cut off, goes on behind its end, or holds a member that is
            no plain file, whose name leaves the archive, or whose size is none.
    """
    where = f"{store.uri}/{key}" + (f": {inner}" if inner else "")
    file = RangeFile(store, key, start, stop, read_ahead_bytes=read_ahead_bytes)
    yield from walk_open_tar(file, where, start, stop)


def walk_open_tar(
    file: io.RawIOBase | io.BytesIO,
    where: str,
    start: int,
    stop: int,
    others: Literal["refuse", "pass over"] = "refuse",
) -> Iterator[TarMember]:
    """Yield the files of a tar that is open; whoever takes them may read from it in between.

    Args:
        file: bytes start to stop of its object.
        where: names it in errors.
        others: what to do with members that are no plain files with plain names.

    Raises:
        ArchiveCorrupt: as `walk_tar`.
    """
    for member in _Walk(file, where, stop - start, others).members():
        yield TarMember(member.name, start + member.start, member.size_bytes)


class _Walk:
    """The walk through one tar; offsets count from its first byte."""

    def __init__(
        self, file: io.RawIOBase | io.BytesIO, where: str, size_bytes: int, others: str
    ) -> None:
        self._file, self._where, self._size_bytes = file, where, size_bytes
        self._refuses_others = others == "refuse"

    def members(self) -> Iterator[TarMember]:
        offset, said = 0, _Said()
        while (header := self._header_at(offset)) is not None:
            offset += BLOCK
            if header.kind in (b"x", b"g", b"L", b"K"):
                self._hear(header, offset, said)
                offset += _padded(header.size_bytes)
                continue
            name = header.name if said.name is None else said.name
            size_bytes = header.size_bytes if said.size_bytes is None else said.size_bytes
            is_folder = header.kind == b"5" or (header.kind == b"\0" and name.endswith("/"))
            is_plain = header.kind in (b"0", b"\0", b"7") and not said.sparse
            problem = _problem_of(name) or (None if is_plain or is_folder else "is no plain file")
            if problem and self._refuses_others:
                self._refuse(name, problem)
            if size_bytes == _NO_SIZE:
                self._refuse(name, "has a size that is none")
            if not is_folder and header.kind not in _WITHOUT_DATA:
                self._check_end(name, offset + size_bytes)
                if not problem:
                    yield TarMember(name.removeprefix("./"), offset, size_bytes)
                offset += _padded(size_bytes)
            said = _Said()
        self._check_rest(offset)

    def _check_rest(self, end: int) -> None:
        """Check that nothing but zeros follows the end-of-archive block at a byte."""
        offset = end + BLOCK
        goes_on = self._size_bytes - offset > _MAX_PADDING_BYTES
        while not goes_on and (piece := self._read(offset, _PIECE_BYTES)):
            goes_on = bool(piece.strip(b"\0"))
            offset += len(piece)
        if goes_on:
            raise ArchiveCorrupt(
                f"{self._where} goes on behind its end-of-archive block at byte {end:,}",
                remedy=f"{_AGAIN}; join several tars with `tar --concatenate`",
            )

    def _header_at(self, offset: int) -> _Header | None:
        """Read one header; None at the end-of-archive block, which has to be there."""
        block = self._read(offset, BLOCK)
        if offset == 0 and not _is_header(block) and block != _ZEROS:
            raise ArchiveCorrupt(f"{self._where} is no tar: it has no header", remedy=_AGAIN)
        if len(block) < BLOCK:
            raise ArchiveCorrupt(
                f"{self._where} is cut off at byte {offset + len(block):,}: its end-of-archive"
                " block is missing",
                remedy=_AGAIN,
            )
        if block == _ZEROS:
            return None
        if not _is_header(block):
            raise ArchiveCorrupt(
                f"{self._where} has no member header at byte {offset:,}", remedy=_AGAIN
            )
        name = _text(block[:100])
        # GNU's own magic ends in spaces, and has times where ustar has a prefix.
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        size_bytes = _number(block[124:136])
        if size_bytes is None:
            self._refuse(name, "has a size that is none")
        return _Header(block[156:157], name, size_bytes)

    def _hear(self, header: _Header, offset: int, said: _Said) -> None:
        """Take in what a GNU or pax header says of the next member, or of all (pax, `g`)."""
        limit = _MAX_NAME_BYTES if header.kind in (b"L", b"K") else _MAX_PAX_BYTES
        if header.size_bytes > limit:
            self._refuse(header.name, f"is a header of {header.size_bytes:,} bytes")
        body = self._read(offset, header.size_bytes)
        if len(body) < header.size_bytes:
            self._check_end(header.name, offset + header.size_bytes)
        if header.kind == b"L":
            said.name = _text(body)
        elif header.kind in (b"x", b"g"):
            self._hear_pax(header, _pax_records(body), said)

    def _hear_pax(
        self, header: _Header, records: Mapping[bytes, bytes] | None, said: _Said
    ) -> None:
        if records is None:
            self._refuse(header.name, "is a pax header that cannot be read")
        if header.kind == b"g":
            if records.keys() & {b"path", b"size"}:
                self._refuse(header.name, "gives all members one name or size")
            return
        if b"path" in records:
            said.name = _text(records[b"path"])
        if b"size" in records:
            is_size = _DECIMAL.fullmatch(records[b"size"])
            said.size_bytes = int(records[b"size"]) if is_size else _NO_SIZE
        said.sparse |= any(key.startswith(b"GNU.sparse.") for key in records)

    def _check_end(self, name: str, stop: int) -> None:
        if stop > self._size_bytes:
            raise ArchiveCorrupt(
                f"{self._where}: member {name!r} ends at byte {stop:,}, the archive at"
                f" {self._size_bytes:,}",
                remedy=_AGAIN,
            )

    def _read(self, offset: int, size_bytes: int) -> bytes:
        # The last member's padding may be missing: nothing lies behind the end.
        size_bytes = min(size_bytes, self._size_bytes - offset)
        if size_bytes <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(size_bytes) or b""

    def _refuse(self, name: str, problem: str) -> NoReturn:
        raise ArchiveCorrupt(f"{self._where}: member {name!r} {problem}", remedy=_NOT_OFFICIAL)


def _problem_of(name: str) -> str | None:
    if name.startswith("/") or (".." in name and ".." in PurePosixPath(name).parts):
        return "has a name that leaves the archive"
    if not is_utf8(name):
        return "has a name that is not UTF-8"
    return None if name else "has no name"


def _is_header(block: bytes) -> bool:
    """Whether a block is whole, and has its checksum: the sum of its bytes, that field as spaces.

    Some old tars took bytes for signed numbers.
    """
    if len(block) < BLOCK:
        return False
    field = block[148:156]
    expected = _number(field)
    total = sum(block) - sum(field) + len(field) * ord(" ")
    if expected == total:
        return True
    return expected == total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _number(field: bytes) -> int | None:
    """Read octal digits, or GNU's base 256; None for what is no number, or a negative one."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    return None if match is None else int(match[1] or b"0", 8)


def _text(field: bytes) -> str:
    """Decode up to the first NUL; what is not UTF-8 becomes surrogates."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_records(body: bytes) -> Mapping[bytes, bytes] | None:
    """Read `length key=value` lines, the length that of the whole line; None if they are none."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(body):
        match = _PAX_LENGTH.match(body, position)
        stop = position + int(match[1]) if match else 0
        if match is None or not match.end() < stop <= len(body) or body[stop - 1] != ord("\n"):
            return None
        key, equals, value = body[match.end() : stop - 1].partition(b"=")
        if not equals:
            return None
        records[key] = value
        position = stop
    return records


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK) * BLOCK
