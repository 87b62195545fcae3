"""Stage 4 of 11, render: one planned shard in, one Parquet file and its receipt out.

The same members and options give the same bytes: no clock, host or path goes into a shard.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from safetensors.numpy import load, save

from infra.commit import Frozen, StoredObject, read_object, write_object
from infra.map_ahead import map_ahead
from infra.store import ObjectStore
from preprocessing.building.plan import PlannedShard
from preprocessing.building.summing import PixelAdder
from preprocessing.building.versions import encoder_versions
from preprocessing.dataset.labels import Classes
from preprocessing.dataset.manifest import Reject, Shard
from preprocessing.dataset.pixels import (
    Pixels,
    central_square,
    decode_for,
    decode_image,
    to_short_side,
    to_square,
)
from preprocessing.dataset.schema import open_shard_writer, shard_schema
from preprocessing.dataset.statistics import PixelSums
from preprocessing.dataset.stored import encode_jpeg, encode_raw
from preprocessing.errors import ImageRejected
from preprocessing.settings import PrepareSettings
from preprocessing.sources.fetch import read_members
from preprocessing.sources.members import Member
from preprocessing.sources.unpack import refuse_damaged_copy

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

RENDERED_ANEW: Final = "run the same command again: it makes that shard anew, and no other"
"""The way out where what lies beside a shard is damaged after it was checked."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """What all shards of a dataset have in common. Picklable."""

    source: ObjectStore
    target: ObjectStore
    """The dataset's folder."""
    classes: Classes
    options: PrepareSettings
    versions: Mapping[str, str] = field(default_factory=encoder_versions)
    """Of the libraries that every shard is rendered with; those of the process that made this."""
    threads: int = 1
    """That render images of one shard at the same time; it never changes a byte."""


class ShardReceipt(Frozen):
    """A rendered shard that exists, what was rejected, and where its sums are."""

    shard: Shard
    rejects: tuple[Reject, ...]
    sums: StoredObject


def render_shard(job: RenderJob, planned: PlannedShard) -> ShardReceipt:
    """Render one shard: rows in plan order, packed into full row groups but the last.

    Raises:
        ArchiveMissing, ArchiveCorrupt: a member cannot be read any more.
        ObjectCorrupt: a member has other bytes than were unpacked; the next run unpacks it anew.
    """
    work = _Work(job, planned)
    schema = shard_schema(job.classes.names)
    with job.target.open_output(planned.path) as file:
        sink = _DigestingSink(file)
        with open_shard_writer(sink, schema) as writer:
            rows = work.rows()
            while group := list(islice(rows, job.options.rows_per_group)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema), len(group))
    shard = Shard(
        path=planned.path,
        size_bytes=sink.size_bytes,
        sha256=sink.digest.hexdigest(),
        start=planned.start,
        stop=planned.stop,
        holes=tuple(reject.sample_id for reject in work.rejects),
        pixels_xxh3=work.pixels.hexdigest(),
    )
    sums = write_object(job.target, sums_path(planned), work.sums_to_bytes())
    receipt = ShardReceipt(shard=shard, rejects=tuple(work.rejects), sums=sums)
    job.target.write(planned.receipt_path, receipt.model_dump_json().encode())
    return receipt


def read_sums(
    target: ObjectStore, receipt: ShardReceipt
) -> tuple[PixelSums | None, npt.NDArray[np.uint8]]:
    """Read a rendered shard's sums, if it has any, and its members' SHA-256, (planned rows, 32).

    Raises:
        ObjectCorrupt: they were damaged since they were written.
    """
    arrays = load(read_object(target, receipt.sums, remedy=RENDERED_ANEW))
    member_sha256 = arrays.pop("member_sha256")
    return PixelSums(**arrays) if arrays else None, member_sha256


def sums_path(planned: PlannedShard) -> str:
    """Where a shard's sums go, beside its receipt."""
    return planned.receipt_path.removesuffix(".json") + ".safetensors"


@dataclass(frozen=True, slots=True)
class _Image:
    """What became of one member."""

    pixels: Pixels
    square: Pixels
    """That statistics are of."""
    stored: bytes


class _Work:
    """Rows of one shard, and what is collected while they pass."""

    def __init__(self, job: RenderJob, planned: PlannedShard) -> None:
        self._job, self._planned = job, planned
        side_px = job.options.stored_px
        # Statistics are of train alone.
        is_counted = planned.split == "train"
        self._sums = PixelAdder(side_px, side_px, len(job.classes)) if is_counted else None
        self._member_sha256: list[bytes] = []
        self.pixels = xxhash.xxh3_128()
        self.rejects: list[Reject] = []

    def rows(self) -> Iterator[Row]:
        members = read_members(self._job.source, self._planned.members)
        numbered = enumerate(members, self._planned.start)
        for sample_id, member, sha256, image in map_ahead(
            self._rendered, numbered, self._job.threads
        ):
            self._member_sha256.append(sha256)
            if isinstance(image, Reject):
                self.rejects.append(image)
            else:
                yield self._row(sample_id, member, image)

    def _rendered(
        self, numbered: tuple[int, tuple[Member, bytes]]
    ) -> tuple[int, Member, bytes, "_Image | Reject"]:
        """Do all that needs no other image; threads do it."""
        sample_id, (member, body) = numbered
        sha256 = hashlib.sha256(body).digest()
        if member.sha256 not in (None, sha256.hex()):
            refuse_damaged_copy(self._job.source, member.archive, member.name)
        try:
            pixels, square = self._shaped(body)
            image = _Image(pixels, square, self._encoded(pixels, body))
        except ImageRejected as error:
            return sample_id, member, sha256, _reject(sample_id, member, body, error)
        return sample_id, member, sha256, image

    def _row(self, sample_id: int, member: Member, image: "_Image") -> Row:
        """Add up one image, and make its row; in the plan's order."""
        label = self._job.classes.label_of[member.wnid]
        if self._sums is not None:
            self._sums.add(image.square, label)
        self.pixels.update(b"%d %d\n" % image.pixels.shape[:2])
        self.pixels.update(np.ascontiguousarray(image.pixels).data)
        return {
            "image": {"bytes": image.stored, "path": member.name},
            "label": label,
            "sample_id": sample_id,
            "wnid": member.wnid,
            "height": image.pixels.shape[0],
            "width": image.pixels.shape[1],
        }

    def _shaped(self, body: bytes) -> tuple[Pixels, Pixels]:
        """Return what is stored, and the square that statistics are of."""
        side_px = self._job.options.stored_px
        image = decode_for(body, side_px)
        match self._job.options.shape:
            case "square":
                square = to_square(image.pixels, side_px, image.box)
                return square, square
            case "keep-aspect":
                pixels = to_short_side(image.pixels, side_px, image.box)
                return pixels, central_square(pixels)
            case "original":
                whole = image.pixels if image.factor == 1 else decode_image(body)
                return whole, to_square(image.pixels, side_px, image.box)

    def _encoded(self, pixels: Pixels, body: bytes) -> bytes:
        options = self._job.options
        if options.shape == "original":
            return body
        if options.encoding == "raw":
            return encode_raw(pixels)
        return encode_jpeg(pixels, options.quality, options.chroma)

    def sums_to_bytes(self) -> bytes:
        digests = np.frombuffer(b"".join(self._member_sha256), np.uint8).reshape(-1, 32)
        sums = {} if self._sums is None else self._sums.result().to_arrays()
        return save(sums | {"member_sha256": digests})


def _reject(sample_id: int, member: Member, body: bytes, error: ImageRejected) -> Reject:
    return Reject(
        split=member.split,
        sample_id=sample_id,
        archive=member.archive,
        member=member.name,
        start=member.start,
        size_bytes=member.size_bytes,
        reason=error.problem,
        first_bytes=body[:16].hex(),
    )


class _DigestingSink(io.RawIOBase):
    """Pass bytes on; know how many there were, and their SHA-256."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size_bytes

    def write(self, body: "ReadableBuffer") -> int:
        view = memoryview(body).cast("B")
        self._file.write(view)
        self.digest.update(view)
        self.size_bytes += len(view)
        return len(view)
