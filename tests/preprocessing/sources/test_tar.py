import io
import struct
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jpeg_archives import TRAIN, cut, make_tar, write_archives

from infra.store import FolderStore, MemoryStore
from preprocessing.errors import ArchiveCorrupt
from preprocessing.sources.tar import BLOCK, TarMember, walk_open_tar, walk_tar

FILES = [("a.JPEG", b"a" * 700), ("b.JPEG", b""), ("c.JPEG", b"c" * 512)]


def walk(body: bytes) -> list[TarMember]:
    store = MemoryStore()
    store.write("x.tar", body)
    return list(walk_tar(store, "x.tar", 0, len(body)))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_the_walk_says(format: int) -> None:
    files = [*FILES, ("d" * 90 + "/" + "e" * 120, b"long name")]
    body = make_tar(files, format) if format != tarfile.USTAR_FORMAT else make_tar(FILES)
    found = [(m.name, body[m.start : m.start + m.size_bytes]) for m in walk(body)]
    assert found == (files if format != tarfile.USTAR_FORMAT else FILES)


def test_a_tar_inside_an_object_is_walked_in_place() -> None:
    inner = make_tar(FILES)
    body = make_tar([("n1.tar", inner)])
    store = MemoryStore()
    store.write("x.tar", body)
    (tar,) = walk_tar(store, "x.tar", 0, len(body))
    members = walk_tar(store, "x.tar", tar.start, tar.start + tar.size_bytes, inner=tar.name)
    assert [body[m.start : m.start + m.size_bytes] for m in members] == [b for _, b in FILES]


@given(st.integers(min_value=0, max_value=512 * 7 - 1))
def test_every_cut_is_noticed(size_bytes: int) -> None:
    body = make_tar(FILES)  # three headers, 2 + 0 + 1 blocks of data, then zeros
    with pytest.raises(ArchiveCorrupt):
        walk(body[:size_bytes])


def test_a_cut_in_the_padding_is_noticed_on_a_disk_too(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(make_tar(FILES)[: 512 + 701])
    with pytest.raises(ArchiveCorrupt, match="its end-of-archive block is missing"):
        list(walk_tar(FolderStore(tmp_path), "x.tar", 0, 512 + 701))


def test_a_cut_member_is_named_with_its_bytes(tmp_path: Path) -> None:
    cut(write_archives(tmp_path) / TRAIN, 5_000)
    store = FolderStore(tmp_path)
    with pytest.raises(
        ArchiveCorrupt, match=r"'n00000010.tar' ends at byte [\d,]+, the archive at"
    ):
        list(walk_tar(store, TRAIN, 0, 5_000))


def test_garbage_after_a_member_is_not_the_end() -> None:
    body = make_tar(FILES)
    with pytest.raises(ArchiveCorrupt, match="no member header at byte 3,072"):
        walk(body[: 512 * 6] + b"garbage!" * 1000)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_hole_over_a_header_is_not_the_end(nested: bool, blocks: int) -> None:
    body = bytearray(make_tar([*FILES, ("d.JPEG", b"d" * 4000)]))
    body[512 * 3 : 512 * (3 + blocks)] = bytes(512 * blocks)  # from the header of b.JPEG on
    whole, start = bytes(body), 0
    if nested:
        whole, start = make_tar([("n1.tar", whole)]), BLOCK
    store = MemoryStore()
    store.write("x.tar", whole)
    stop = start + len(body)
    with pytest.raises(ArchiveCorrupt, match=r"goes on behind .* at byte 1,536") as caught:
        list(walk_tar(store, "x.tar", start, stop, inner="n1.tar" if nested else None))
    assert "download the archive again" in caught.value.remedy


def test_zeros_behind_the_end_are_read_in_pieces_and_only_as_many_as_can_be_padding() -> None:
    file = Holes({0: header("a")})
    assert [m.name for m in walk_open_tar(file, "x", 0, 16 << 20)] == ["a"]
    assert file.most == 1 << 20
    file = Holes({0: header("a")})
    with pytest.raises(ArchiveCorrupt, match="goes on behind its end-of-archive block"):
        list(walk_open_tar(file, "x", 0, 100 << 30))
    assert file.most == BLOCK


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>" * 100, b"x" * 511])
def test_what_is_no_tar_is_called_so(body: bytes) -> None:
    with pytest.raises(ArchiveCorrupt, match="is no tar"):
        walk(body)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/etc/passwd", tarfile.REGTYPE),
        ("a/../../b", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_a_hostile_member_is_refused_by_name(name: str, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "elsewhere"
        tar.addfile(info)
    with pytest.raises(ArchiveCorrupt, match=name):
        walk(out.getvalue())


def header(
    name: str, *, size: bytes = b"0", kind: bytes = b"0", magic: bytes = b"ustar\x0000"
) -> bytes:
    """One header block, with any bytes where its size belongs."""
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = magic
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


END = bytes(2 * BLOCK)


def long_name(name: bytes, claimed: int | None = None) -> bytes:
    """GNU's way to say a name of any length."""
    size = len(name) if claimed is None else claimed
    body = name.ljust(-(-len(name) // BLOCK) * BLOCK, b"\0")
    return header("././@LongLink", size=b"%o" % size, kind=b"L") + body


def pax(records: bytes, claimed: int | None = None, kind: bytes = b"x") -> bytes:
    size = len(records) if claimed is None else claimed
    body = records.ljust(-(-len(records) // BLOCK) * BLOCK, b"\0")
    return header("pax", size=b"%o" % size, kind=kind) + body


def record(key: str, value: str) -> bytes:
    line = f" {key}={value}\n".encode()
    digits = next(n for n in range(1, 9) if len(str(len(line) + n)) == n)
    return b"%d" % (len(line) + digits) + line


@pytest.mark.parametrize(
    ("hostile", "problem"),
    [
        (header("../up"), "'../up' has a name that leaves the archive"),
        (header("/abs/", kind=b"5"), "'/abs/' has a name that leaves the archive"),
        (header("fifo", kind=b"6"), "'fifo' is no plain file"),
        (header("block", kind=b"4"), "'block' is no plain file"),
        (header("volume", kind=b"V"), "'volume' is no plain file"),
        (header("holes", kind=b"S"), "'holes' is no plain file"),
        (
            pax(record("GNU.sparse.major", "1") + record("GNU.sparse.name", "x")) + header("holes"),
            "'holes' is no plain file",
        ),
        (header(""), "'' has no name"),
        (pax(record("path", "../../x")) + header("x"), "'../../x' has a name that leaves"),
        (long_name(b"a/" * 300 + b"../" * 301 + b"x") + header("x"), "has a name that leaves"),
        (long_name(b"\xff\xfe") + header("x"), "has a name that is not UTF-8"),
        (header("minus", size=b"-1"), "'minus' has a size that is none"),
        (header("minus", size=b"\xff" * 12), "'minus' has a size that is none"),
        (header("words", size=b"1x"), "'words' has a size that is none"),
        (header("huge", size=b"77777777777"), r"'huge' ends at byte 8,589,93\d,\d+, the archive"),
        (header("huge", size=b"\x80" + b"\xff" * 11), "'huge' ends at byte 309,485,009,821,345"),
        (pax(record("size", "-512")) + header("minus"), "'minus' has a size that is none"),
        (pax(record("size", "9" * 19)) + header("huge"), "'huge' ends at byte 10,000,000,000,000"),
        (pax(record("size", "9" * 5000)) + header("huge"), "'huge' has a size that is none"),
        (pax(b"99999 path=x\n") + header("x"), "'pax' is a pax header that cannot be read"),
        (pax(b"path=x\n") + header("x"), "'pax' is a pax header that cannot be read"),
        (pax(record("path", "x"), kind=b"g") + header("x"), "'pax' gives all members one name"),
        (pax(b"", claimed=5 << 30), r"'pax' is a header of 5,368,709,120 bytes"),
        (long_name(b"", claimed=5 << 30), r"'\./\./@LongLink' is a header of 5,368,709,120 bytes"),
        (long_name(b"", claimed=9000), r"'\./\./@LongLink' ends at byte"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_hostile_header_is_refused_by_name(hostile: bytes, problem: str, nested: bool) -> None:
    body = make_tar(FILES).rstrip(b"\0")
    body = body.ljust(-(-len(body) // BLOCK) * BLOCK, b"\0") + hostile + END
    store = MemoryStore()
    start = 0
    if nested:
        body = make_tar([("n1.tar", body)])
        start = BLOCK
    store.write("x.tar", body)
    stop = len(body) if not nested else start + int(body[124:135], 8)
    with pytest.raises(ArchiveCorrupt, match=problem):
        list(walk_tar(store, "x.tar", start, stop, inner="n1.tar" if nested else None))


class Holes(io.RawIOBase):
    """A file of any size, zeros but for some pieces."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        super().__init__()
        self.pieces, self.position, self.most = pieces, 0, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        self.most = max(self.most, size)
        body = self.pieces.get(self.position, b"")[:size]
        self.position += size
        return body.ljust(size, b"\0")


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_header_of_gigabytes_that_are_there_is_not_read(kind: bytes) -> None:
    file = Holes({0: header("giant", size=b"%o" % (6 << 30), kind=kind)})
    with pytest.raises(ArchiveCorrupt, match="is a header of 6,442,450,944 bytes"):
        list(walk_open_tar(file, "x", 0, 7 << 30))
    assert file.most <= BLOCK


def test_a_chain_of_headers_takes_neither_memory_nor_recursion() -> None:
    chain = (long_name(b"b" * 500) + pax(record("path", "c" * 40))) * 5_000
    body = chain + header("a") + END
    tracemalloc.start()
    try:
        members = list(walk_open_tar(io.BytesIO(body), "x", 0, len(body)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert members == [TarMember("c" * 40, len(chain) + BLOCK, 0)]
    assert peak < 1 << 20


def test_a_sparse_archive_of_real_size_is_walked_by_its_headers_alone() -> None:
    size, stride = 1 << 30, (1 << 30) + BLOCK
    pieces = {i * stride: header(f"{i}.tar", size=b"%o" % size) for i in range(138)}
    file = Holes(pieces)
    members = list(walk_open_tar(file, "x", 0, 138 * stride + 2 * BLOCK))
    assert [member.start for member in members] == [i * stride + BLOCK for i in range(138)]
    assert {member.size_bytes for member in members} == {size}
    assert file.most <= BLOCK


def test_a_base_256_size_is_read() -> None:
    file = Holes({0: header("big", size=b"\x80" + struct.pack(">3xQ", 20 << 30))})
    (member,) = walk_open_tar(file, "x", 0, (20 << 30) + 3 * BLOCK)
    assert member == TarMember("big", BLOCK, 20 << 30)


def test_folders_old_headers_and_prefixes_are_understood() -> None:
    prefixed = bytearray(header("leaf"))
    prefixed[345:350] = b"a/b/c"
    prefixed[148:155] = b"%06o\0" % sum(prefixed[:148] + b" " * 8 + prefixed[156:])
    body = b"".join(
        (
            header("./", kind=b"5"),
            header("old/", kind=b"\0"),
            header("./old/file", kind=b"\0", magic=b"\0" * 8),
            header("contiguous", kind=b"7"),
            bytes(prefixed),
            END,
        )
    )
    assert [m.name for m in walk(body)] == ["old/file", "contiguous", "a/b/c/leaf"]


def test_a_checksum_of_signed_bytes_is_one_too() -> None:
    block = bytearray(header("größe"))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + b" " * 8 + block[156:])
    block[148:155] = b"%06o\0" % signed
    assert [member.name for member in walk(bytes(block) + END)] == ["größe"]
    block[148:155] = b"%06o\0" % (signed + 1)
    with pytest.raises(ArchiveCorrupt, match="is no tar"):
        walk(bytes(block) + END)


def test_what_tarfile_reads_is_read_alike(tmp_path: Path) -> None:
    for number, format in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        (tmp_path / "größe").mkdir(exist_ok=True)
        (tmp_path / "größe" / "日本.JPEG").write_bytes(b"x" * 1000)
        with tarfile.open(path, "w", format=format, encoding="utf-8") as tar:
            tar.add(tmp_path / "größe", "größe")
        with tarfile.open(path, encoding="utf-8") as tar:
            expected = [(i.name, i.offset_data, i.size) for i in tar if i.isreg()]
        found = [(m.name, m.start, m.size_bytes) for m in walk(path.read_bytes())]
        assert found == expected


def test_strangers_may_be_passed_over() -> None:
    link = header("link", kind=b"2", size=b"1000")
    holes = header("holes", kind=b"S", size=b"1000") + b"x" * BLOCK
    strangers = header("../up") + link + holes
    body = strangers + header("plain") + END
    members = walk_open_tar(io.BytesIO(body), "x", 0, len(body), others="pass over")
    assert [member.name for member in members] == ["plain"]
