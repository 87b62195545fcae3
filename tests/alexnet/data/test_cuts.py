"""Datasets that are no squares, from the build to the batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jpeg_archives import make_jpeg
from PIL import Image

from alexnet.data.crops import draw_crops, draw_resized_crops
from alexnet.data.in_process import read_batches
from alexnet.data.reader import ReadSpec
from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.settings import ResizedCrop
from infra.store import FolderStore, MemoryStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.plan import plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.pixels import central_square, decode_image, to_short_side, to_square
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member, Members

SIZES = [(40, 30), (30, 64), (50, 50), (97, 41)]
"""Width and height of the source's images, in turn."""
STORED_PX, CROP_PX = 24, 16


def member(number: int, split: Any, size_bytes: int) -> Member:
    return Member(split, f"{number}.jpg", f"{number}.jpg", 0, size_bytes, "ab"[number % 2])


def build(folder: Path, **options: Any) -> tuple[FolderStore, Manifest, dict[int, bytes]]:
    """Commit 12 images for training and 4 for validation; return the files of the former by id."""
    source, target = MemoryStore(), FolderStore(folder)
    bodies = [make_jpeg(i, *SIZES[i % len(SIZES)]) for i in range(16)]
    members = [member(i, "train" if i < 12 else "val", len(b)) for i, b in enumerate(bodies)]
    for item, body in zip(members, bodies, strict=True):
        source.write(item.archive, body)
    columns = {name: [getattr(m, name) for m in members] for name in Member.__slots__}
    table = pa.table(columns, schema=Members.schema())
    settings = PrepareSettings(
        stored_px=STORED_PX, rows_per_group=4, rows_per_shard=8, quality=98, **options
    )
    job = RenderJob(
        source=source,
        target=target,
        classes=make_classes({"a": "a", "b": "b"}),
        options=settings,
    )
    plan = [
        shard
        for split in ("train", "val")
        for shard in plan_split(Members(table), split, seed=0, rows_per_shard=8)
    ]
    receipts = [render_shard(job, planned) for planned in plan]
    manifest = commit_dataset(job, plan, receipts, name="cuts", key="cuts", max_rejects=0)
    ids = [m for planned in plan if planned.split == "train" for m in planned.members]
    return target, manifest, {i: source.read(m.archive) for i, m in enumerate(ids)}


def spec_of(store: FolderStore, **changes: Any) -> ReadSpec:
    spec = ReadSpec(
        dataset_uri=store.uri,
        seed=3,
        global_batch=4,
        order_kind="reshuffled",
        crop_px=CROP_PX,
        crop_sharing=1,
    )
    return replace(spec, **changes)


def images_of(spec: ReadSpec, epoch: int) -> dict[int, np.ndarray]:
    batches = read_batches(spec, first_step=3 * epoch, stop_step=3 * epoch + 3)
    return {
        int(i): image.copy()
        for batch in batches
        for i, image in zip(batch.rows.sample_ids, batch.rows.images, strict=True)
    }


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_crops_of_whole_images_reach_past_the_square(tmp_path: Path, encoding: str) -> None:
    store, manifest, files = build(tmp_path, shape="keep-aspect", encoding=encoding, chroma="444")
    assert (manifest.shape, manifest.height_px) == ("keep-aspect", STORED_PX)
    outside = 0
    for epoch in range(3):
        images = images_of(spec_of(store), epoch)
        assert sorted(images) == list(range(12))
        for i, image in images.items():
            whole = to_short_side(decode_image(files[i]), STORED_PX)
            ((y, x),) = draw_crops(
                seed=3,
                epoch=epoch,
                sample_ids=np.array([i]),
                stored_px=np.array([whole.shape[:2]]),
                crop_px=CROP_PX,
            )
            expected = whole[y : y + CROP_PX, x : x + CROP_PX].astype(int)
            assert np.abs(image - expected).mean() < (3 if encoding == "jpeg" else 1e-9)
            margins = [(side - STORED_PX) // 2 for side in whole.shape[:2]]
            outside += y + x < max(margins) or y + x > max(margins) + STORED_PX - CROP_PX
    assert outside > 5


def test_originals_keep_their_bytes_and_are_scaled_when_read(tmp_path: Path) -> None:
    store, manifest, files = build(tmp_path, shape="original")
    assert manifest.train.shards[0].size_bytes > sum(len(files[i]) for i in range(8))
    for i, image in images_of(spec_of(store), 1).items():
        whole = to_short_side(decode_image(files[i]), STORED_PX)
        ((y, x),) = draw_crops(
            seed=3,
            epoch=1,
            sample_ids=np.array([i]),
            stored_px=np.array([whole.shape[:2]]),
            crop_px=CROP_PX,
        )
        expected = whole[y : y + CROP_PX, x : x + CROP_PX].astype(int)
        # Only the filter's support at the part's borders differs.
        assert np.abs(image - expected).mean() < 2


def test_scaled_parts_are_drawn_in_the_originals_own_pixels(tmp_path: Path) -> None:
    store, _, files = build(tmp_path, shape="original")
    resized = ResizedCrop(min_area=0.3)
    for i, image in images_of(spec_of(store, resized_crop=resized), 0).items():
        pixels = decode_image(files[i])
        whole = to_short_side(pixels, STORED_PX)
        ((top, left, height, width),) = draw_resized_crops(
            seed=3,
            epoch=0,
            sample_ids=np.array([i]),
            stored_px=np.array([whole.shape[:2]]),
            resized=resized,
        ) * np.tile(np.divide(pixels.shape[:2], whole.shape[:2]), 2)
        expected = Image.fromarray(pixels).resize(
            (CROP_PX, CROP_PX),
            Image.Resampling.BILINEAR,
            box=(left, top, left + width, top + height),
        )
        assert np.array_equal(image, np.asarray(expected))


@pytest.mark.parametrize("shape", ["square", "keep-aspect", "original"])
def test_validation_and_statistics_are_of_squares(tmp_path: Path, shape: str) -> None:
    store, manifest, _ = build(tmp_path, shape=shape, chroma="444")
    (block,) = plan_blocks(manifest.val)
    reader = BlockReader(store, manifest)
    rows = reader.read(block)
    images = rows.decode()
    reader.close()
    squares = []
    for i in range(12, 16):
        pixels = decode_image(make_jpeg(i, *SIZES[i % len(SIZES)]))
        whole = to_short_side(pixels, STORED_PX)
        kept = shape == "keep-aspect"
        squares.append(central_square(whole) if kept else to_square(pixels, STORED_PX))
    assert images.shape == (4, STORED_PX, STORED_PX, 3)
    for image in images.astype(int):
        assert min(np.abs(image - square).mean() for square in squares) < 3


def test_pixels_have_a_digest_that_encoders_do_not_change(tmp_path: Path) -> None:
    def digests(name: str, **options: Any) -> tuple[list[str | None], list[str]]:
        _, manifest, _ = build(tmp_path / name, **options)
        shards = manifest.train.shards
        return [s.pixels_xxh3 for s in shards], [s.sha256 for s in shards]

    jpeg, raw = digests("jpeg"), digests("raw", encoding="raw")
    assert jpeg[0] == raw[0]
    assert jpeg[1] != raw[1]
    assert digests("444", chroma="444")[0] == jpeg[0]
    assert digests("kept", shape="keep-aspect")[0] != jpeg[0]
