import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from jpeg_archives import NO_IMAGE, make_jpeg
from PIL import Image, ImageOps

from infra.errors import StoreError
from infra.store import FolderStore, MemoryStore, ObjectStore
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import (
    RenderJob,
    ShardReceipt,
    read_sums,
    render_shard,
)
from preprocessing.building.versions import encoder_versions
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.pixels import decode_image, decode_square
from preprocessing.dataset.schema import ShardReader
from preprocessing.dataset.stored import ShapeName, decode_stored, stored_square
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing, ShardCorrupt
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.drawn_images import draw_jpeg, generator
from preprocessing.sources.members import Member, Members, SplitName
from preprocessing.sources.source import read_index

ODD = {
    "n02979186_8409.JPEG": "CMYK",
    "n02102040_3372.JPEG": "PNG",
    "n03445777_10401.JPEG": "grey",
    "n03028079_21667.JPEG": "turned by EXIF",
    "n03394916_37384.JPEG": "progressive",
}
CUT = "n03417042_5824.JPEG"


def planned(members: Sequence[Member], start: int = 0) -> PlannedShard:
    columns = {name: [getattr(m, name) for m in members] for name in Member.__slots__}
    table = pa.table(columns, schema=Members.schema())
    return PlannedShard(split="train", number=0, num_shards=1, start=start, members=Members(table))


def job_of(source: ObjectStore, target: ObjectStore, wnids: Iterable[str], px: int) -> RenderJob:
    return RenderJob(
        source=source,
        target=target,
        classes=make_classes({wnid: f"thing {wnid}" for wnid in wnids}),
        options=PrepareSettings(stored_px=px, quality=95, rows_per_group=4, rows_per_shard=8),
    )


def render(
    bodies: Sequence[bytes], target: ObjectStore, start: int = 0
) -> tuple[RenderJob, ShardReceipt]:
    source = MemoryStore()
    members = [
        Member("train", f"{i}.jpg", f"{i}.jpg", 0, len(body), "ab"[i % 2])
        for i, body in enumerate(bodies)
    ]
    for member, body in zip(members, bodies, strict=True):
        source.write(member.archive, body)
    job = job_of(source, target, "ab", 32)
    return job, render_shard(job, planned(members, start))


def pillow_reference(body: bytes, px: int) -> npt.NDArray[np.uint8]:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    return np.asarray(ImageOps.fit(image, (px, px), Image.Resampling.BICUBIC))


def test_odd_files_look_as_pillow_shows_them(shared_data: Path, tmp_path: Path) -> None:
    dataset = DatasetSettings(archives=str(shared_data / "ilsvrc-mini"))
    index = read_index(dataset, PrepareSettings(), FolderStore(tmp_path / "workspace"))
    members = [m for m in index.members if m.name in ODD or m.name == CUT]
    job = job_of(index.store, FolderStore(tmp_path / "out"), list(index.classes.label_of), 256)
    receipt = render_shard(job, planned(members))

    (reject,) = receipt.rejects
    assert (reject.member, reject.first_bytes[:4]) == (CUT, "ffd8")
    rows = pq.read_table(pa.BufferReader(job.target.read(receipt.shard.path))).to_pylist()
    by_name = {m.name: m for m in members}
    assert {row["image"]["path"] for row in rows} == set(ODD)
    for row in rows:
        member = by_name[row["image"]["path"]]
        body = index.store.read_range(
            member.archive, member.start, member.start + member.size_bytes
        )
        stored = decode_stored(row["image"]["bytes"]).astype(int)
        difference = np.abs(stored - pillow_reference(body, 256)).mean()
        assert difference < 3, ODD[member.name]


@pytest.mark.parametrize("shape", ["square", "keep-aspect", "original"])
def test_photographs_of_full_size_look_as_pillow_shows_them(
    shared_data: Path, tmp_path: Path, shape: ShapeName
) -> None:
    folder = shared_data / "ilsvrc-fullsize"
    bodies = {path.name: path.read_bytes() for path in sorted(folder.glob("*.JPEG"))}
    assert len(bodies) == 30
    members = [Member("train", name, name, 0, len(body), name[:9]) for name, body in bodies.items()]
    job = job_of(FolderStore(folder), FolderStore(tmp_path), {m.wnid for m in members}, 256)
    # Raw: of one picture, full of noise, a JPEG of quality 95 itself differs by 4.8.
    changes = {"shape": shape, "encoding": "jpeg" if shape == "original" else "raw"}
    job = replace(job, options=job.options.model_copy(update=changes))
    receipt = render_shard(job, planned(members))
    assert receipt.rejects == ()
    rows = pq.read_table(pa.BufferReader(job.target.read(receipt.shard.path))).to_pylist()
    assert [row["image"]["path"] for row in rows] == list(bodies)
    for row in rows:
        body, stored = bodies[row["image"]["path"]], row["image"]["bytes"]
        expected = pillow_shape(body, shape, 256)
        assert (row["height"], row["width"]) == expected.shape[:2]
        found = decode_image(stored) if shape == "original" else decode_stored(stored)
        assert np.abs(found.astype(int) - expected).mean() < 1, row["image"]["path"]
        assert stored == body or shape != "original"


def pillow_shape(body: bytes, shape: ShapeName, px: int) -> npt.NDArray[np.uint8]:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    match shape:
        case "square":
            return pillow_reference(body, px)
        case "keep-aspect":
            scale = px / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        case "original":
            return np.asarray(image)


def test_row_groups_are_packed_across_rejects() -> None:
    bodies = [make_jpeg(i) for i in range(14)]
    bodies[1] = bodies[6] = bodies[7] = NO_IMAGE
    store = MemoryStore()
    _, receipt = render(bodies, store, start=100)
    file = pq.ParquetFile(pa.BufferReader(store.read(receipt.shard.path)))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [4, 4, 3]
    assert receipt.shard.holes == (101, 106, 107)
    ids = file.read()["sample_id"].to_pylist()
    assert ids == receipt.shard.sample_ids().tolist()


def test_the_receipt_has_the_digest_of_the_bytes() -> None:
    store = MemoryStore()
    bodies = [make_jpeg(i) for i in range(5)]
    job, receipt = render(bodies, store)
    body = store.read(receipt.shard.path)
    assert receipt.shard.sha256 == hashlib.sha256(body).hexdigest()
    assert receipt.shard.size_bytes == len(body)
    sums, digests = read_sums(job.target, receipt)
    assert sums is not None
    assert [d.tobytes() for d in digests] == [hashlib.sha256(b).digest() for b in bodies]
    assert sums.class_counts.tolist() == [3, 2]


def test_sums_are_those_of_the_pixels() -> None:
    store = MemoryStore()
    bodies = [make_jpeg(i, 32, 32) for i in range(6)]
    job, receipt = render(bodies, store)
    sums, _ = read_sums(job.target, receipt)
    assert sums is not None
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(body))) for body in bodies]).astype(int)
    assert np.array_equal(sums.image_sum, pixels.sum(axis=0))
    flat = pixels.reshape(-1, 3)
    assert np.array_equal(sums.product_sum, flat.T @ flat)


@pytest.mark.parametrize("split", ["train", "val"])
def test_any_number_of_threads_gives_the_same_bytes(split: SplitName) -> None:
    bodies = [NO_IMAGE if i in (0, 7, 12) else make_jpeg(i, 90 - i, 70) for i in range(30)]
    source = MemoryStore()
    source.write("a.tar", b"".join(bodies))
    starts = [sum(map(len, bodies[:i])) for i in range(len(bodies))]
    members = [
        Member(split, "a.tar", f"{i}.jpg", start, len(body), "ab"[i % 2])
        for i, (start, body) in enumerate(zip(starts, bodies, strict=True))
    ]
    made = []
    for threads in (1, 2, 5):
        job = replace(job_of(source, target := MemoryStore(), "ab", 32), threads=threads)
        receipt = render_shard(job, replace(planned(members), split=split))
        assert [reject.sample_id for reject in receipt.rejects] == [0, 7, 12]
        made.append({info.key: target.read(info.key) for info in target.list()})
    assert made[0] == made[1] == made[2]


def test_of_val_only_digests_are_kept() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.write("a.jpg", body := make_jpeg(1))
    member = Member("val", "a.jpg", "a.jpg", 0, len(body), "a")
    val = replace(planned([member]), split="val")
    receipt = render_shard(job_of(source, target, "a", 32), val)
    sums, (digest,) = read_sums(target, receipt)
    assert sums is None
    assert digest.tobytes() == hashlib.sha256(body).digest()
    assert receipt.sums.size_bytes < 200


@pytest.mark.parametrize(
    ("shape", "size"), [("square", (32, 32)), ("keep-aspect", (32, 38)), ("original", (517, 611))]
)
def test_a_large_jpeg_is_decoded_as_its_shape_needs(
    shape: ShapeName, size: tuple[int, int]
) -> None:
    body, source, target = make_jpeg(3, 611, 517), MemoryStore(), MemoryStore()
    source.write("a.jpg", body)
    job = job_of(source, target, "a", 32)
    options = job.options.model_copy(update={"shape": shape, "encoding": "raw"})
    member = Member("train", "a.jpg", "a.jpg", 0, len(body), "a")
    receipt = render_shard(replace(job, options=options), planned([member]))
    (row,) = pq.read_table(pa.BufferReader(target.read(receipt.shard.path))).to_pylist()
    assert (row["height"], row["width"]) == size
    square = stored_square(row["image"]["bytes"], shape, 32)
    sums, _ = read_sums(target, receipt)
    assert sums is not None
    assert np.array_equal(sums.image_sum, square)
    if shape != "keep-aspect":
        assert np.array_equal(square, decode_square(body, 32))
    whole = decode_image(body) if shape == "original" else decode_stored(row["image"]["bytes"])
    pixels = b"%d %d\n" % size + whole.tobytes()
    assert receipt.shard.pixels_xxh3 == xxhash.xxh3_128_hexdigest(pixels)


def test_a_shard_of_nothing_but_rejects_is_an_empty_file() -> None:
    store = MemoryStore()
    _, receipt = render([NO_IMAGE] * 3, store)
    assert receipt.shard.num_rows == 0
    assert pq.read_table(pa.BufferReader(store.read(receipt.shard.path))).num_rows == 0


def test_hugging_face_finds_its_features() -> None:
    store = MemoryStore()
    _, receipt = render([make_jpeg(0), make_jpeg(1)], store)
    table = pq.read_table(pa.BufferReader(store.read(receipt.shard.path)))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": ["thing a", "thing b"]}
    assert list(features) == table.column_names
    row = table.to_pylist()[1]
    assert (row["label"], row["wnid"], row["image"]["path"]) == (1, "b", "1.jpg")
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (row["width"], row["height"])


def test_a_flipped_byte_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    _, receipt = render([make_jpeg(i) for i in range(8)], store)
    path = tmp_path / receipt.shard.path
    body = bytearray(path.read_bytes())
    body[len(body) // 3] ^= 1
    path.write_bytes(body)
    with pytest.raises(ShardCorrupt, match=receipt.shard.path):
        ShardReader(store, receipt.shard).read_groups([0, 1])


class Failing(io.BytesIO):
    """A file whose disk goes away."""

    is_away = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.is_away:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_a_disk_that_fails_is_no_damaged_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    _, receipt = render([make_jpeg(i) for i in range(8)], store)
    file = Failing(store.read(receipt.shard.path))
    monkeypatch.setattr(store, "open_input", lambda _: pa.PythonFile(file, mode="r"))
    reader = ShardReader(store, receipt.shard)
    file.is_away = True
    with pytest.raises(StoreError, match=f"{receipt.shard.path} cannot be read: .*Input/output"):
        reader.read_groups([0, 1])
    with pytest.raises(StoreError, match="Input/output"):
        ShardReader(store, receipt.shard)


def test_a_shard_with_other_rows_or_columns_is_noticed_when_it_is_opened() -> None:
    store = MemoryStore()
    _, receipt = render([make_jpeg(i) for i in range(3)], store)
    shard = receipt.shard
    with pytest.raises(ShardCorrupt, match="has 3 rows, the manifest names 4"):
        ShardReader(store, shard.model_copy(update={"stop": shard.stop + 1}))
    with store.open_output(shard.path) as sink:
        pq.write_table(pa.table({"label": [1, 2, 3]}), sink)
    with pytest.raises(ShardCorrupt, match=r"has no column image\.bytes"):
        ShardReader(store, shard)


@pytest.mark.parametrize("error", [KeyError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "no")])
def test_a_damaged_footer_is_a_damaged_shard(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    store = MemoryStore()
    _, receipt = render([make_jpeg(0)], store)
    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(ShardCorrupt, match=receipt.shard.path):
        ShardReader(store, receipt.shard)


def test_a_shard_is_pinned() -> None:
    # If this changes with these libraries, raise prepare.VERSION: old datasets have other bytes.
    if encoder_versions() != {"pillow": "13.0.0", "pyarrow": "25.0.1", "simplejpeg": "1.9.0"}:
        pytest.skip(f"pinned for other libraries than {encoder_versions()}")
    bodies = [draw_jpeg(label, generator("pinned", label)) for label in range(6)]
    _, receipt = render(bodies, MemoryStore())
    assert receipt.shard.sha256 == PINNED_SHARD
    large = [make_jpeg(i, 70 * i, 611) for i in range(1, 9)]  # all but one are decoded smaller
    _, receipt = render(large, MemoryStore())
    assert receipt.shard.sha256 == PINNED_SHARD_OF_LARGE


PINNED_SHARD = "5f817ac9416bf0a74d6d64cfafaa852320e0aa131623006637cf391d218cb7cf"
PINNED_SHARD_OF_LARGE = "f68cd2849472ef6d58a5122917ac88095c8536b026235aebea695323b8042930"


def test_an_archive_that_shrank_is_no_reject() -> None:
    source, member = MemoryStore(), Member("train", "x", "x", 0, 100, "a")
    source.write("x", b"short")
    with pytest.raises(ArchiveCorrupt, match=r"'x' ends at byte 100, the archive at 5"):
        render_shard(job_of(source, MemoryStore(), "a", 32), planned([member]))


def test_an_archive_that_is_gone_is_named() -> None:
    member = Member("train", "gone.tar", "x", 0, 100, "a")
    with pytest.raises(ArchiveMissing, match=r"gone.tar is gone"):
        render_shard(job_of(MemoryStore(), MemoryStore(), "a", 32), planned([member]))
