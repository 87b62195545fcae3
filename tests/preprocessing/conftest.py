"""Small committed datasets, made in this process without Ray."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pyarrow as pa
import pytest
from jpeg_archives import NO_IMAGE, make_jpeg

from infra.store import ObjectStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.plan import PlannedShard, plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import Manifest
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member, Members

OPTIONS = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=4)
ARCHIVE = "a.tar"


@dataclass(frozen=True)
class Built:
    """A dataset, and what it was made from."""

    job: RenderJob
    plan: tuple[PlannedShard, ...]
    manifest: Manifest


Build = Callable[..., Built]


@pytest.fixture(scope="session")
def build() -> Build:
    """Commit a dataset of two classes: `num_train` images, and half as many for validation."""
    return build_dataset


def build_dataset(
    target: ObjectStore,
    source: ObjectStore,
    *,
    num_train: int = 10,
    bad: Collection[int] = (),
    options: PrepareSettings = OPTIONS,
) -> Built:
    """Commit it at `target`; `bad` images of train are none, and become rejects."""
    bodies, rows, start = [], [], 0
    for i in range(num_train + num_train // 2):
        body = NO_IMAGE if i in bad else make_jpeg(i, width=20 + i % 3, height=18)
        split = "train" if i < num_train else "val"
        rows.append(
            {"split": split, "archive": ARCHIVE, "name": f"{i}.jpg", "wnid": "ab"[i % 2]}
            | {"start": start, "size_bytes": len(body), "sha256": None}
        )
        bodies.append(body)
        start += len(body)
    source.write(ARCHIVE, b"".join(bodies))
    members = Members(pa.Table.from_pylist(rows, Members.schema()))
    plan = tuple(
        planned
        for split in ("train", "val")
        for planned in plan_split(
            members, split, seed=options.seed, rows_per_shard=options.rows_per_shard
        )
    )
    classes = make_classes({"a": "apple", "b": "bee"})
    job = RenderJob(source=source, target=target, classes=classes, options=options)
    receipts = [render_shard(job, planned) for planned in plan]
    manifest = commit_dataset(job, plan, receipts, name="tiny", key="0" * 64, max_rejects=len(bad))
    assert list(Member.__slots__) == members.table.column_names
    return Built(job, plan, manifest)
