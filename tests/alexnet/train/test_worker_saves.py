"""One rank of an attempt by itself, without Ray: what it saves in which order, what it reports."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from alexnet.data.input_statistics import InputStatistics
from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.attempts import claim_attempt, read_attempts
from alexnet.train.checkpoint import list_checkpoints
from alexnet.train.job import TrainJob
from alexnet.train.loop import StepReport
from alexnet.train.schedule_settings import CosineSchedule
from alexnet.train.settings import CheckpointSettings, TrainSettings
from alexnet.train.wiring import make_learner, plan_of
from alexnet.train.worker import _Worker
from alexnet.train.world import World
from infra.errors import DataError
from infra.store import FolderStore
from preprocessing.dataset.statistics import read_statistics


class Recording(FolderStore):
    """A folder that tells what is made and deleted in it."""

    def __init__(self, root: Path, tell: Callable[[str], None]) -> None:
        super().__init__(root)
        self._tell = tell

    def child(self, prefix: str) -> "Recording":
        return Recording(Path(super().child(prefix).uri), self._tell)

    def write(self, key: str, body: bytes) -> None:
        super().write(key, body)
        self._tell(f"write {key}")

    def create(self, key: str, body: bytes) -> bool:
        self._tell(f"create {key}")
        return super().create(key, body)

    def delete(self, key: str) -> None:
        self._tell(f"delete {key}")
        super().delete(key)


@dataclass(frozen=True)
class Meeting(World):
    """Ranks that need not wait for each other."""

    tell: Callable[[str], None] = print

    def wait_for_all(self) -> None:
        self.tell("all ranks came")


@dataclass
class Rank:
    """A worker made of its parts, and what it did."""

    events: list[str] = field(default_factory=list)
    recorded: list[tuple[Any, ...]] = field(default_factory=list)

    def make(self, data: Any, run: Path, *, rank: int = 0, seed: int = 0) -> _Worker:
        job = TrainJob(
            run_key="0" * 64,
            run_uri=str(run),
            dataset_uri=data.store.uri,
            dataset_fingerprint=data.manifest.fingerprint,
            num_classes=data.manifest.num_classes,
            network=NetworkSettings(width=0.05, init="fan-in"),
            train=TrainSettings(
                epochs=4,
                seed=seed,
                global_batch=8,
                augment=AugmentSettings(crop_px=40),
                schedule=CosineSchedule(weight_rate=0.01, bias_rate=0.02),
            ),
            checkpoint=CheckpointSettings(keep_last=2),
        )
        statistics = InputStatistics.of(read_statistics(data.store, data.manifest.statistics))
        made: Any = _Worker.__new__(_Worker)
        made.attempt, made._job = 1, job
        made._run = Recording(run, self.events.append)
        made._world = Meeting(rank, 2, self.events.append)
        made._order = job.order(data.manifest)
        made._plan, made._gpu = plan_of(job, made._order), None
        with torch.random.fork_rng():
            made._learner = make_learner(job, statistics, torch.device("cpu"), World())
        made._network = made._learner.model
        made._unsaved = ["a point"]
        made._sample_log = SimpleNamespace(flush=lambda: self.events.append("sample log"))
        made._sink = SimpleNamespace(
            flush=SimpleNamespace(remote=self._flush),
            record=SimpleNamespace(remote=lambda *told: self.recorded.append(told)),
        )
        worker: _Worker = made
        return worker

    def _flush(self, points: list[Any]) -> None:
        self.events.append(f"journal with {points}")


@pytest.fixture(autouse=True)
def _answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda answer: answer)


def test_nothing_lags_the_receipt_of_a_checkpoint(tiny_training: Any, tmp_path: Path) -> None:
    """Sample logs of all ranks and all points are durable before it; old ones go after it."""
    claim_attempt(FolderStore(tmp_path), start_step=0, world_size=2)
    rank = Rank()
    worker = rank.make(tiny_training, tmp_path)
    for step in (3, 6, 9):
        rank.events.clear()
        worker._save(step)
    before = ["sample log", "all ranks came", "journal with []"]
    assert rank.events[:3] == before
    receipt = rank.events.index("create receipt.json")
    written = {event for event in rank.events[3:receipt] if event.startswith("write")}
    assert {"write model.safetensors", "write optimizer.safetensors", "write state.json"} < written
    assert all(
        event.startswith("delete checkpoints/step-00000003-")
        for event in rank.events[receipt + 1 :]
    )
    kept = list_checkpoints(FolderStore(tmp_path), read_attempts(FolderStore(tmp_path)))
    assert [checkpoint.step for checkpoint in kept] == [6, 9]


def test_points_since_the_last_save_are_handed_over_once_more_and_then_forgotten(
    tiny_training: Any, tmp_path: Path
) -> None:
    rank = Rank()
    worker = rank.make(tiny_training, tmp_path)
    worker._save(3)
    worker._save(6)
    handed = [event for event in rank.events if event.startswith("journal")]
    assert handed == ["journal with ['a point']", "journal with []"]


def test_other_ranks_write_their_samples_and_wait(tiny_training: Any, tmp_path: Path) -> None:
    rank = Rank()
    rank.make(tiny_training, tmp_path, rank=1)._save(3)
    assert rank.events == ["sample log", "all ranks came"]


def test_a_checkpoint_of_another_training_is_not_gone_on_from(
    tiny_training: Any, tmp_path: Path
) -> None:
    Rank().make(tiny_training, tmp_path)._save(3)
    worker = Rank().make(tiny_training, tmp_path, seed=1)
    with pytest.raises(DataError, match="seed is 0, not 1"):
        worker._restore("checkpoints/step-00000003-a0001")


def test_what_is_reported_bears_its_name_and_unit(tiny_training: Any, tmp_path: Path) -> None:
    rank = Rank()
    worker = rank.make(tiny_training, tmp_path)
    report = StepReport(
        step=4,
        loss=1.5,
        weight_rate=0.01,
        bias_rate=0.02,
        images=600,
        elapsed_s=2.0,
        waited_frac=0.25,
    )
    worker._report(report)
    ((points, position),) = rank.recorded
    assert {point.key: point.value for point in points} == {
        "train/loss": 1.5,
        "train/weight_rate": 0.01,
        "train/bias_rate": 0.02,
        "perf/images_per_s": 300.0,
        "perf/data_wait_frac": 0.25,
    }
    assert {point.step for point in points} == {4}
    assert position == (4, 28)  # of 20 images: 8, 8, 4, 8
    worker._gpu = "NVIDIA A100-SXM4-80GB"
    worker._report(report)
    (mfu,) = (point.value for point in rank.recorded[1][0] if point.key == "perf/mfu")
    assert 0 < mfu < 1


def test_one_rank_reports_for_all(tiny_training: Any, tmp_path: Path) -> None:
    rank = Rank()
    worker = rank.make(tiny_training, tmp_path, rank=1)
    worker._report(StepReport(4, 1.5, 0.01, 0.02, images=600, elapsed_s=2.0, waited_frac=0.25))
    assert rank.recorded == []
