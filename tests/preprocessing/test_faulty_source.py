"""Whole builds in an S3 that goes wrong: the archives lie there, and so does the workspace.

`ALEXNET_TEST_FAULTY_ARCHIVES=DIR` takes the archives of a directory instead of tiny ones; `-s` then
shows what was tried again.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from in_this_process import run_here
from jpeg_archives import write_archives
from s3_servers import FaultyServer

from infra.errors import StoreError
from infra.store import FolderStore, MemoryStore, ObjectStore
from infra.store.s3 import S3Store
from preprocessing.building import execute
from preprocessing.building.digests import damage_of
from preprocessing.dataset.manifest import MANIFEST, Manifest
from preprocessing.prepare import dataset_folder, dataset_key, prepare_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.source import read_index

GIVEN = os.environ.get("ALEXNET_TEST_FAULTY_ARCHIVES")
TINY = PrepareSettings(stored_px=16, rows_per_group=2, rows_per_shard=8, max_rejects=1)
OPTIONS = PrepareSettings(rows_per_shard=640, max_rejects=1) if GIVEN else TINY
SLOW_S = 2.0 if GIVEN else 0.05
FAULTS = (500, 503, "reset", "truncate", "lost-answer", "slow")

pytestmark = [pytest.mark.timeout(3600 if GIVEN else 300)]


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "run_tasks", run_here)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if GIVEN:
        return Path(GIVEN)
    folder = tmp_path_factory.mktemp("archives")
    return write_archives(folder, train_per_class=12, num_val=4, bad=[5])


@pytest.fixture
def expected(archives: Path) -> Manifest:
    """What a build makes that nothing goes wrong in."""
    return build(str(archives), MemoryStore())[0]


@pytest.fixture
def uploaded(archives: Path, faulty_store: S3Store) -> S3Store:
    """The archives in the S3 that will go wrong."""
    store, local = faulty_store.child("archives"), FolderStore(archives)
    for info in local.list():
        if info.key.startswith("ILSVRC2012_"):
            store.write(info.key, local.read(info.key))
    return store


def build(archives: str, workspace: ObjectStore) -> tuple[Manifest, ObjectStore]:
    dataset = DatasetSettings(name="faulty", archives=archives)
    index = read_index(dataset, OPTIONS, workspace)
    manifest = prepare_dataset(index, dataset, OPTIONS, workspace)
    return manifest, workspace.child(dataset_folder(dataset.name, dataset_key(index, OPTIONS)))


def check_whole(manifest: Manifest, dataset: ObjectStore, expected: Manifest) -> None:
    """Nothing is lost, and nothing corrupt is committed."""
    assert manifest == expected
    damage = {item.path: damage_of(dataset, item) for item in manifest.objects()}
    assert not any(damage.values()), damage


def retried(records: Sequence[logging.LogRecord]) -> tuple[Counter[str], float]:
    """How often each kind of call failed and was tried again, and the seconds until it worked."""
    failed: Counter[str] = Counter()
    elapsed_s = 0.0
    for record in records:
        match record.msg.partition(" ")[0], record.args:
            case "call_failed", (str(what), *_):
                failed[what.partition(" ")[0]] += 1
            case "call_succeeded", (_, _, float(seconds)):
                elapsed_s += seconds
    return failed, elapsed_s


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_a_build_gets_over_faults_of_every_kind(
    rate: float,
    expected: Manifest,
    uploaded: S3Store,
    faulty_store: S3Store,
    faulty_s3: FaultyServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="infra.retry")
    for seed, fault in enumerate(FAULTS):
        faulty_s3.add_fault(fault, rate=rate, seed=seed, seconds=SLOW_S)
    manifest, dataset = build(uploaded.uri, faulty_store.child("workspace"))
    hits = dict(zip(FAULTS, faulty_s3.hits(), strict=True))
    faulty_s3.clear_faults()
    failed, elapsed_s = retried(caplog.records)
    print(
        f"\n{rate:.0%} each: faults {hits}, tried again {dict(failed)}, {elapsed_s:.1f} s in them"
    )
    check_whole(manifest, dataset, expected)
    assert sum(hits.values()) > 0
    # What is slow is waited for, a cut body is read on, and a lost answer may be found to be one.
    gone_on = hits["slow"] + hits["truncate"] + hits["lost-answer"]
    assert sum(failed.values()) >= sum(hits.values()) - gone_on


def test_a_build_that_gave_up_says_so_and_goes_on_later(
    expected: Manifest, uploaded: S3Store, faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    workspace = faulty_store.child("workspace")
    read_index(DatasetSettings(archives=uploaded.uri), OPTIONS, workspace)
    faulty_s3.add_fault(503, method="PUT", path=r"/train/part-00002-of-")
    with pytest.raises(StoreError, match="stayed away: SlowDown") as caught:
        build(uploaded.uri, workspace.with_deadline(0.5))
    assert "run the same command again" in caught.value.remedy
    faulty_s3.clear_faults()
    left = {info.key: info.version for info in workspace.list("datasets/")}
    assert not any(key.endswith(MANIFEST) for key in left)
    finished = [key for key in left if "/train/part-" in key]
    assert len(finished) == 2

    faulty_s3.add_fault(500, method="PUT", path=r"/train/part-0000[01]-of-")
    manifest, dataset = build(uploaded.uri, workspace.with_deadline(0.5))
    assert faulty_s3.hits() == [0]
    check_whole(manifest, dataset, expected)
