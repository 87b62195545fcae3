"""A build whose command is killed, and then one of its workers; and what the tables say."""

from pathlib import Path

import pytest
from jpeg_archives import write_archives
from small_build import build_without_ray

from benchmarks.machine import read_hardware
from benchmarks.preprocessing.builds import Build, finished_shards, product_digests
from benchmarks.preprocessing.builds import differing as differing_files
from benchmarks.preprocessing.killer import Outcome, Quiet, build_under_kills
from benchmarks.preprocessing.kills import KillReport, format_kills
from infra.store import FolderStore, MemoryStore
from preprocessing.prepare import dataset_folder, dataset_key, prepare_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.source import read_index

SHARDS = 14
OPTIONS = PrepareSettings(rows_per_shard=64, max_rejects=1)


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_kill_of_the_command_and_one_of_a_worker_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = write_archives(tmp_path / "archives", train_per_class=400, num_val=64, bad=[7])
    dataset = DatasetSettings(archives=str(archives))
    workspace = FolderStore(tmp_path / "quiet")
    index = read_index(dataset, OPTIONS, workspace)
    with monkeypatch.context() as patch:
        build_without_ray(patch)
        prepare_dataset(index, dataset, OPTIONS, workspace)
    quiet = workspace.child(dataset_folder(dataset.name, dataset_key(index, OPTIONS)))
    assert len(finished_shards(quiet)) == SHARDS

    build = Build(
        workspace=str(tmp_path / "killed"),
        settings=(
            f"dataset.archives={archives}",
            f"prepare.rows_per_shard={OPTIONS.rows_per_shard}",
            f"prepare.max_rejects={OPTIONS.max_rejects}",
            f"prepare.quality={OPTIONS.quality}",
        ),
        workers=2,
    )
    outcome = build_under_kills(
        build,
        Quiet(elapsed_s=6.0, first_shard_s=5.0, shards=SHARDS, workers=1),
        product_digests(quiet),
        kills=2,
        seed=0,
    )
    assert (outcome.driver_kills, outcome.worker_kills, outcome.starts) == (1, 1, 2)
    assert outcome.late_kills == 0
    assert outcome.files == SHARDS + 5
    assert outcome.differing == ()
    assert outcome.rewritten == ()


def test_a_missing_and_another_file_differ_and_what_tells_of_the_making_does_not() -> None:
    one, other = MemoryStore(), MemoryStore()
    for store in (one, other):
        store.write("train/part-00000-of-00001.parquet", b"same")
    one.write("manifest.json", b"1")
    other.write("manifest.json", b"2")
    one.write("classes.json", b"")
    one.write("_build/train-00000.json", b"1")
    one.write("lease/0001.json", b"1")
    found = differing_files(product_digests(one), product_digests(other))
    assert found == ["classes.json", "manifest.json"]
    assert list(finished_shards(one)) == ["train/part-00000-of-00001.parquet"]
    assert finished_shards(other) == {}


@pytest.mark.parametrize(
    ("differing", "rewritten", "verdict"),
    [
        ((), (), "no finished shard was written again"),
        (("manifest.json",), (), "FILES DIFFER"),
        ((), ("train/part-00000-of-00009.parquet",), "FINISHED SHARDS WERE WRITTEN AGAIN"),
    ],
)
def test_the_table_says_whether_files_differ_or_were_written_again(
    differing: tuple[str, ...], rewritten: tuple[str, ...], verdict: str
) -> None:
    outcome = Outcome(
        workers=4,
        driver_kills=10,
        worker_kills=9,
        late_kills=0,
        starts=11,
        elapsed_s=99.0,
        files=23,
        differing=differing,
        rewritten=rewritten,
    )
    report = KillReport(
        started_at="2026-01-01T00:00:00+00:00",
        archives="some",
        store="s3",
        seed=0,
        rows_per_shard=64,
        hardware=read_hardware(),
        versions={},
        commit=None,
        load_average=(0.0, 1.0),
        quiet=Quiet(elapsed_s=9.0, first_shard_s=5.0, shards=9, workers=2),
        outcomes=(outcome,),
    )
    assert report.holds is not bool(differing or rewritten)
    assert verdict in format_kills(report)
