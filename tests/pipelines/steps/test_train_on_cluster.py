"""What happens between two placements; the workers themselves are in the end-to-end tests."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet.settings import WorkerRange
from alexnet.train.attempts import claim_attempt
from alexnet.train.checkpoint import CheckpointReceipt
from alexnet.train.placement import Placement
from infra.commit import StoredObject
from infra.errors import NoRoomForWorkers, ServiceError, WorkersDied, WorkersNotJoined
from infra.progress import no_progress
from infra.ray_runtime import Node, Resources
from infra.store import MemoryStore
from pipelines.steps import train_on_cluster
from pipelines.steps.train_on_cluster import ClusterTraining

GIB = float(1 << 30)
LOST = NoRoomForWorkers("others are gone", remedy="bring them back")
APART = WorkersNotJoined("a port is taken", remedy="free it")
DIED = WorkersDied("workers died more than 3 times", remedy="see why")


@contextmanager
def quietly(_: str) -> Iterator[Any]:
    yield no_progress


class Cluster:
    """What the cluster has at each look; the first start of the workers ends for lack of room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: Resources) -> None:
        self.looks = list(looks)
        self.starts: list[Placement] = []
        self.endings: list[ServiceError] = [LOST]
        """How the first starts of the workers end."""
        self.saves: list[int] = []
        """Steps of the checkpoints that the first starts leave; 0 where they leave none."""
        self.run = MemoryStore()
        self.waits_s: list[tuple[float, float]] = []
        """How long MLflow was waited for at each end: in silence, in all."""
        self.sent = True
        self.free_gpus = 64
        self.max_failures = 3
        self.said: list[str] = []
        monkeypatch.setattr(train_on_cluster, "cluster_resources", lambda: self.looks.pop(0))
        monkeypatch.setattr(train_on_cluster, "start_metrics_actor", lambda *_, **__: None)
        monkeypatch.setattr(train_on_cluster, "finish_metrics", self._finish)
        monkeypatch.setattr(train_on_cluster, "run_training", self._run)
        monkeypatch.setattr(train_on_cluster, "free_gpus", lambda: self.free_gpus)
        monkeypatch.setattr(train_on_cluster, "open_store", lambda _: self.run)
        monkeypatch.setattr(train_on_cluster, "LOST_NODE_S", 0.0)
        monkeypatch.setattr(train_on_cluster, "FREED_S", 0.0)

    def _run(self, _job: Any, placement: Placement, _sink: Any, **_: Any) -> None:
        self.starts.append(placement)
        if self.saves and (step := self.saves.pop(0)):
            self.run.write(f"checkpoints/step-{step:08}-a0001/receipt.json", receipt_of(step))
        if len(self.starts) <= len(self.endings):
            raise self.endings[len(self.starts) - 1]

    def _finish(self, _sink: Any, silence_s: float, *, at_most_s: float) -> bool:
        self.waits_s.append((silence_s, at_most_s))
        return self.sent

    def train(self, workers: int | WorkerRange, tmp_path: Any, gpu: str = "auto") -> bool:
        scaling = SimpleNamespace(workers=workers, max_failures=self.max_failures, gpu=gpu)
        context: Any = SimpleNamespace(
            start_cluster=lambda: (
                None
            ),  # no `cluster`: what it had when Ray was joined is of no use
            recipe=SimpleNamespace(scaling=scaling, tracking=SimpleNamespace(experiment="x")),
            tracking=None,
            say=self.said.append,
            progress=quietly,
        )
        job: Any = SimpleNamespace(run_uri=str(tmp_path))
        training = ClusterTraining(context, job, "run", total_steps=10, num_images=100)
        return training.run()


def receipt_of(step: int) -> bytes:
    """A checkpoint's receipt; nobody here reads what it names."""
    item = StoredObject(path="x", size_bytes=1, sha256="0" * 64)
    receipt = CheckpointReceipt(step=step, attempt=1, state=item, model=item, optimizer=item)
    return receipt.model_dump_json().encode()


def nodes(*each: tuple[float, float]) -> Resources:
    return Resources(tuple(Node(*node) for node in each), 64 * GIB)


def test_a_cluster_that_lost_a_node_is_shared_out_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)), nodes((8, 1)))
    cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert [placement.workers for placement in cluster.starts] == [2, 1]


def test_where_no_failure_is_allowed_the_first_ends_the_training_however_far_it_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1)), nodes((8, 1)))
    cluster.max_failures = 0
    cluster.endings, cluster.saves = [WorkersDied("a worker died", remedy="run again")], [5]
    with pytest.raises(WorkersDied):
        cluster.train(1, tmp_path)
    assert len(cluster.starts) == 1


def test_mlflow_is_waited_for_while_points_arrive_and_hardly_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)), nodes((8, 1)))
    assert cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert cluster.waits_s == [(5.0, 5.0), (60.0, math.inf)]
    assert not any("curves" in line for line in cluster.said)


def test_curves_that_are_not_whole_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)), nodes((8, 1)))
    cluster.sent = False
    assert not cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert cluster.said[-1].startswith("train: MLflow does not have all points of the curves")


def test_where_fewer_workers_will_not_do_the_loss_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)), nodes((8, 1)))
    with pytest.raises(NoRoomForWorkers, match="others are gone"):
        cluster.train(2, tmp_path)
    assert len(cluster.starts) == 1


def test_a_training_on_gpus_never_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 0), (8, 1)), nodes((8, 0)))
    with pytest.raises(NoRoomForWorkers):
        cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert [placement.use_gpu for placement in cluster.starts] == [True]


def test_a_cluster_that_is_as_it_was_is_no_reason_to_try_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    same = nodes((8, 1), (8, 1))
    cluster = Cluster(monkeypatch, same, same, same)
    with pytest.raises(NoRoomForWorkers):
        cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert len(cluster.starts) == 1


def test_workers_that_did_not_come_together_are_started_again_where_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)))
    cluster.endings = [APART, APART]
    assert cluster.train(2, tmp_path)
    assert [placement.workers for placement in cluster.starts] == [2, 2, 2]
    assert "train: a port is taken; starting them again" in cluster.said


def test_workers_that_never_come_together_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)))
    cluster.endings = [APART] * 9
    with pytest.raises(WorkersNotJoined):
        cluster.train(2, tmp_path)
    assert len(cluster.starts) == 4  # max_failures of them again


@pytest.mark.parametrize(("free", "workers"), [(32, 32), (64, 64), (4, 8)])
def test_a_range_takes_the_gpus_that_others_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, free: int, workers: int
) -> None:
    """With all of them it would wait for others to end, and give up."""
    cluster = Cluster(monkeypatch, nodes(*((96, 8),) * 8))
    cluster.endings = []
    cluster.free_gpus = free
    assert cluster.train(WorkerRange(min=8, max=64), tmp_path)
    assert [placement.workers for placement in cluster.starts] == [workers]


def test_a_number_of_workers_waits_for_its_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, nodes(*((96, 8),) * 8))
    cluster.endings = []
    cluster.free_gpus = 32
    assert cluster.train(64, tmp_path)
    assert [placement.workers for placement in cluster.starts] == [64]


def test_gpus_that_others_took_meanwhile_are_gone_on_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    same = nodes((8, 1), (8, 1))
    cluster = Cluster(monkeypatch, same, same)
    cluster.free_gpus = 2

    def take_one(job: Any, placement: Placement, sink: Any, **options: Any) -> None:
        cluster.free_gpus = 1
        cluster._run(job, placement, sink, **options)

    monkeypatch.setattr(train_on_cluster, "run_training", take_one)
    assert cluster.train(WorkerRange(min=1, max=2), tmp_path)
    assert [placement.workers for placement in cluster.starts] == [2, 1]


def test_workers_are_placed_on_what_the_cluster_has_when_they_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Prepare may have taken hours since it was joined."""
    cluster = Cluster(monkeypatch, nodes((8, 1), (8, 1)))
    cluster.endings = []
    assert cluster.train(WorkerRange(min=1, max=8), tmp_path)
    assert [placement.workers for placement in cluster.starts] == [2]


@pytest.mark.parametrize("error", [DIED, LOST, APART], ids=lambda error: type(error).__name__)
def test_failures_count_anew_once_a_checkpoint_was_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, error: ServiceError
) -> None:
    """A training of weeks gets over more lost workers than one that stands still."""
    same = nodes((8, 1), (8, 1))
    cluster = Cluster(monkeypatch, *[same] * 12)
    cluster.endings, cluster.saves = [error] * 9, [10 * n for n in range(1, 10)]
    assert cluster.train(2, tmp_path)
    assert [placement.workers for placement in cluster.starts] == [2] * 10
    assert f"train: {error.problem}; starting them again" in cluster.said


def test_workers_that_die_without_a_new_checkpoint_end_the_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    cluster = Cluster(monkeypatch, *[nodes((8, 1), (8, 1))] * 4)
    cluster.endings, cluster.saves = [DIED] * 4, [10, 0]
    with pytest.raises(WorkersDied):
        cluster.train(2, tmp_path)
    assert len(cluster.starts) == 2


@pytest.mark.parametrize(
    ("gpu", "began_on_gpus", "refused"),
    [
        ("auto", False, None),
        ("auto", True, "this training began on GPUs, and there is no GPU here"),
        ("required", False, "scaling.gpu is required, and there is no GPU here"),
        ("optional", True, None),
    ],
)
def test_a_training_does_not_come_to_cpus_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, gpu: str, began_on_gpus: bool, refused: str
) -> None:
    cluster = Cluster(monkeypatch, nodes((8, 0), (8, 0)))
    cluster.endings = []
    claim_attempt(cluster.run, start_step=0, world_size=2, use_gpu=began_on_gpus)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    if refused is None:
        assert cluster.train(2, tmp_path, gpu)
        assert cluster.said[0] == "train: no GPU in this cluster: training on CPUs"
        return
    with pytest.raises(ServiceError, match=refused) as caught:
        cluster.train(2, tmp_path, gpu)
    assert "scaling.gpu to optional" in caught.value.remedy
    assert cluster.starts == []
