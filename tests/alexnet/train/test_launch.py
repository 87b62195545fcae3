import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from alexnet.train import launch, watch
from alexnet.train.launch import (
    START_RETRIES,
    START_RETRIES_OF_A_RANGE,
    _explained,
    _Fit,
    finish_metrics,
    run_training,
)
from infra.errors import (
    NoRoomForWorkers,
    ObjectCorrupt,
    ProjectError,
    ServiceError,
    WorkersDied,
    WorkersNotJoined,
)
from infra.progress import NotedReport, no_progress

GLOO = RuntimeError("Connection closed by peer")


def _group_error(*failures: Exception) -> WorkerGroupError:
    return WorkerGroupError("some workers failed", dict(enumerate(failures)))


@pytest.mark.parametrize(
    "lost",
    [
        WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError()),
        WorkerHealthCheckTimeoutError("A worker health check has been hanging."),
        OutOfMemoryError("the node was low on memory"),
        RayTaskError("step", "a traceback", ActorDiedError()),
    ],
    ids=lambda lost: type(lost).__name__,
)
def test_a_lost_worker_explains_the_errors_of_its_peers(lost: Exception) -> None:
    explained = _explained(_group_error(GLOO, lost, GLOO), max_failures=3)
    assert isinstance(explained, WorkersDied)
    assert explained.problem.startswith("workers died more than 3 times")
    assert str(lost) in explained.problem
    assert "last checkpoint" in explained.remedy


@pytest.mark.parametrize(
    "bugs",
    [
        (GLOO, ValueError("shapes differ")),
        (RayTaskError("flush", "a traceback", KeyError("k")),),
        (WorkerHealthCheckFailedError("m", RayTaskError("poll", "t", TypeError("unpicklable"))),),
    ],
)
def test_a_bug_stays_what_it_is(bugs: tuple[Exception, ...]) -> None:
    error = _group_error(*bugs)
    assert _explained(error, max_failures=3) is error


def test_a_projects_error_goes_before_lost_workers() -> None:
    ours = ObjectCorrupt("shard 3 is cut", remedy="restore it")
    lost = WorkerHealthCheckFailedError("m", ActorDiedError())
    assert _explained(_group_error(lost, ours), max_failures=3) is ours


@pytest.mark.parametrize(
    "error",
    [ActorDiedError(), OutOfMemoryError("low"), RayTaskError("run", "t", ActorDiedError())],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_controller_is_a_service_error(error: Exception) -> None:
    """It runs on the driver's node."""
    explained = _explained(error, max_failures=3)
    assert isinstance(explained, ServiceError)
    assert explained.problem.startswith("the controller of the training died: ")
    assert "last checkpoint" in explained.remedy


def test_a_bug_in_the_controller_stays_what_it_is() -> None:
    error = RayTaskError("run", "a traceback", KeyError("k"))
    assert _explained(error, max_failures=3) is error


def test_workers_that_could_not_be_started_are_a_service_error() -> None:
    error: TrainingFailedError = ControllerError(WorkerGroupStartupTimeoutError(num_workers=8))
    explained = _explained(error, max_failures=3)
    assert isinstance(explained, NoRoomForWorkers)
    assert explained.problem.startswith("the workers could not be started: ")
    assert "8 workers" in explained.problem


def test_workers_that_do_not_find_each_other_are_told_as_such() -> None:
    """There is room; more of it is no help."""
    taken = RuntimeError("The server socket has failed to listen on port: 29500")
    for failure in (RayTaskError("init", "a traceback", taken), taken):
        explained = _explained(ControllerError(failure), max_failures=3)
        assert isinstance(explained, WorkersNotJoined)
        assert explained.problem == (
            "the workers did not come together: RuntimeError: The server socket has failed to"
            " listen on port: 29500"
        )


def test_starting_the_workers_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Train takes -1, its own default, for that."""
    assert 0 <= START_RETRIES_OF_A_RANGE <= START_RETRIES < 20
    made: dict[str, Any] = {}

    def trainer(_: object, **options: Any) -> Any:
        made.update(options)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr(launch, "TorchTrainer", trainer)
    monkeypatch.setattr(launch, "ask", lambda *_, **__: None)
    monkeypatch.setattr(watch, "ask", lambda *_: None)
    asked = ("position", "starts", "crashes", "failure", "controller")
    sink: Any = SimpleNamespace(**dict.fromkeys(asked))
    job: Any = SimpleNamespace(model_dump_json=lambda: "{}", run_uri="/run")
    placement: Any = SimpleNamespace(workers=2, cpus_per_worker=1, use_gpu=False, strategy="SPREAD")
    run_training(
        job,
        placement,
        sink,
        max_failures=3,
        num_images=1,
        progress=no_progress,
        say=lambda _: None,
    )
    config = made["run_config"].failure_config
    assert (config.max_failures, config.controller_failure_limit) == (3, START_RETRIES)


class _Answers:
    """What a metrics actor is asked."""

    def __init__(self) -> None:
        self.crashed: dict[int, str] = {}
        self.left: ProjectError | None = None

    def position(self) -> tuple[int, int]:
        return 1, 128

    def starts(self) -> list[int]:
        return [0, 1200]

    def fail(self, error: ProjectError) -> None:
        self.left = self.left or error

    def failure(self) -> ProjectError | None:
        return self.left

    def controller(self) -> None:
        return None

    def problem(self) -> str | None:
        return None

    def note_crash(self, attempt: int, text: str) -> None:
        self.crashed[attempt] = text

    def crashes(self) -> dict[int, str]:
        return self.crashed

    def finish(self, silence_s: float, at_most_s: float) -> bool:
        return True


_Sink = ray.remote(num_cpus=0)(_Answers)


@pytest.fixture
def dead_sink(ray_local: Any) -> Any:
    sink = _Sink.remote()
    ray.get(sink.position.remote())
    ray.kill(sink)
    return sink


def _run(
    monkeypatch: pytest.MonkeyPatch,
    sink: Any,
    fit: Callable[[], None],
    progress: NotedReport = no_progress,
    leave_s: float = 0.2,
) -> list[str]:
    monkeypatch.setattr(launch, "POLL_S", 0.05)
    monkeypatch.setattr(launch, "LEAVE_S", leave_s)
    monkeypatch.setattr(launch, "_trainer", lambda *_, **__: SimpleNamespace(fit=fit))
    nothing: Any = None
    said: list[str] = []
    run_training(
        nothing,
        nothing,
        sink,
        max_failures=3,
        num_images=1,
        progress=progress,
        say=said.append,
    )
    return said


@ray.remote(num_cpus=0)
class _Troubled(_Answers):
    """For a while nothing reaches MLflow."""

    def __init__(self, *problems: str | None) -> None:
        super().__init__()
        self._problems = list(problems)

    def problem(self) -> str | None:
        return self._problems.pop(0) if self._problems else None

    def num_left(self) -> int:
        return len(self._problems)


@pytest.mark.ray
def test_what_keeps_points_from_mlflow_is_said_once_and_when_it_is_over(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TROUBLE_S", 0.1)
    sink = _Troubled.remote(None, "a blink", None, *["401 Unauthorized"] * 6, None, None)

    def fit() -> None:
        while ray.get(sink.num_left.remote()) > 1:
            time.sleep(0.05)

    said = _run(monkeypatch, sink, fit)
    assert said == [
        "MLflow takes no points, which are kept and sent later: 401 Unauthorized",
        "MLflow takes points again",
    ]


@pytest.mark.ray
def test_workers_that_died_and_started_again_are_told(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = set()
    _run(
        monkeypatch,
        _Sink.remote(),
        lambda: time.sleep(1),
        lambda done, total, note="": notes.add(note),
    )
    assert notes == {"workers started 2 times, last from step 1,200"}
    assert watch._restarts([0]) == watch._restarts([]) == watch._restarts(None) == ""


@pytest.mark.ray
def test_a_training_outlives_its_metrics_actor(
    dead_sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(monkeypatch, dead_sink, lambda: time.sleep(0.3))
    assert not finish_metrics(dead_sink, 1.0)


@pytest.mark.ray
def test_a_dead_metrics_actor_hides_no_error(
    dead_sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit() -> None:
        raise _group_error(ObjectCorrupt("shard 3 is cut", remedy="restore it"))

    with pytest.raises(ObjectCorrupt, match="shard 3"):
        _run(monkeypatch, dead_sink, fit)


@pytest.mark.ray
def test_why_each_attempt_ended_is_told_and_the_last_whole(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _Sink.remote()
    begins, frame = "Traceback (most recent call last):\n", '  File "f.py", line 1, in f\n    f()\n'
    broken = f"{begins}{frame}RuntimeError: Connection closed by peer\nAdvice follows.\n"
    bug = begins + frame * 200 + "KeyError: 'k'\n"

    def goes_on() -> None:
        ray.get(sink.note_crash.remote(1, broken))
        time.sleep(0.3)

    assert _run(monkeypatch, sink, goes_on) == [
        "attempt 1 ended: RuntimeError: Connection closed by peer"
    ]

    def ends() -> None:
        ray.get(sink.note_crash.remote(2, bug))
        raise _group_error(KeyError("k"))

    with pytest.raises(WorkerGroupError) as caught:
        _run(monkeypatch, sink, ends)
    assert caught.value.__notes__ == [bug]


@pytest.mark.ray
def test_a_workers_error_ends_a_training_before_ray_train_has_started_others(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, over = _Sink.remote(), threading.Event()
    ray.get(sink.fail.remote(ObjectCorrupt("shard 3 is cut", remedy="restore it")))
    try:
        with pytest.raises(ObjectCorrupt, match="shard 3"):
            _run(monkeypatch, sink, lambda: _wait(over))
    finally:
        over.set()


@pytest.mark.ray
def test_workers_that_lack_room_are_waited_for_until_they_are_gone(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are placed anew need what they hold."""
    sink, are_gone = _Sink.remote(), threading.Event()
    ray.get(sink.fail.remote(NoRoomForWorkers("others are gone", remedy="bring them back")))

    def ends() -> None:
        time.sleep(0.5)
        are_gone.set()

    with pytest.raises(NoRoomForWorkers, match="others are gone"):
        _run(monkeypatch, sink, ends)
    assert are_gone.is_set()


@ray.remote(num_cpus=0)
class _Busy(_Answers):
    """A metrics actor that writes its journal while the store is away."""

    def __init__(self, controller: Any) -> None:
        super().__init__()
        self._its = controller

    def controller(self) -> Any:
        return self._its

    def flush(self) -> None:
        time.sleep(120)


@ray.remote(num_cpus=0)
class _Controller:
    def __init__(self) -> None:
        self._is_aborted = False

    def abort(self) -> None:
        self._is_aborted = True

    def is_aborted(self) -> bool:
        return self._is_aborted


@pytest.mark.ray
def test_a_ctrl_c_waits_for_no_metrics_actor_that_waits_for_its_store(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = _Controller.remote()
    sink = _Busy.remote(controller)
    is_over = threading.Event()

    def fit() -> None:
        while not ray.get(controller.is_aborted.remote()):
            time.sleep(0.05)
        is_over.set()

    def interrupt(done: int, total: int, note: str = "") -> None:
        sink.flush.remote()
        raise KeyboardInterrupt

    begun_at = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _run(monkeypatch, sink, fit, interrupt, leave_s=60.0)
    assert is_over.is_set()
    with pytest.raises(ServiceError, match="did not answer"):
        finish_metrics(sink, 0.1, at_most_s=0.1)
    assert time.monotonic() - begun_at < 60
    ray.kill(sink)


def test_a_ctrl_c_does_not_pass_for_the_end_of_the_training() -> None:
    """Whoever shuts Ray down with a thread inside it ends at once, or crashes."""
    over = threading.Event()
    trainer: Any = SimpleNamespace(fit=lambda: _wait(over))
    fit = _Fit(trainer)
    fit.start()
    # What starts in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    press = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    press.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit.wait(60)
        assert not fit.wait(0.0)
    finally:
        press.join()
        signal.signal(signal.SIGINT, before)
        over.set()
    assert fit.wait(60)


def _wait(over: threading.Event) -> None:
    over.wait(60)


class _Clock:
    """A time that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_training_that_stands_still_is_told_once_and_again_after_it_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where tasks find no CPU, Ray says nothing; nor is a slow training's every step news."""
    clock, said = _Clock(), list[str]()
    monkeypatch.setattr(watch, "time", clock)
    monkeypatch.setattr(watch, "ask", lambda method, *_: method)
    sink: Any = SimpleNamespace(position=None, crashes={}, starts=[], problem=None)
    looking = watch.Watch(sink, num_images=1, progress=no_progress, say=said.append)

    def look(at_s: float, step: int | None) -> None:
        clock.now_s = at_s
        sink.position = None if step is None else (step, 128)
        looking.look()

    for at_s, step in ((299, None), (301, None), (310, None), (311, 20), (612, 20)):
        look(at_s, step)
    assert len(said) == 1
    assert said[0].startswith("no step was reported for 5 minutes: ")
    assert "ray status" in said[0]
    look(940, 20)
    look(960, 20)
    assert [line.partition(":")[0] for line in said[1:]] == [
        "no step was reported for 10 minutes after step 20"
    ]
    look(970, 40)
    look(971, None)  # its metrics actor is away
    assert len(said) == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of its settings
def test_an_interrupted_training_gives_its_cpus_back(
    ray_local: Any, tiny_training: Any, tmp_path: Any, mlflow_place: Any
) -> None:
    """In a Ray that goes on, as in a notebook."""
    from alexnet.settings import AugmentSettings, NetworkSettings
    from alexnet.train.job import TrainJob
    from alexnet.train.placement import place_workers
    from alexnet.train.schedule_settings import CosineSchedule
    from alexnet.train.settings import CheckpointSettings, TrainSettings
    from infra.ray_runtime import cluster_resources
    from infra.tracking.actor import start_metrics_actor

    job = TrainJob(
        run_key="0" * 64,
        run_uri=str(tmp_path / "run"),
        dataset_uri=tiny_training.store.uri,
        dataset_fingerprint=tiny_training.manifest.fingerprint,
        num_classes=tiny_training.manifest.num_classes,
        network=NetworkSettings(width=0.05, init="fan-in"),
        train=TrainSettings(
            epochs=100_000,
            global_batch=8,
            log_every_steps=1,
            augment=AugmentSettings(crop_px=40),
            schedule=CosineSchedule(weight_rate=0.01, bias_rate=0.01),
        ),
        checkpoint=CheckpointSettings(every_epochs=100_000),
    )
    before = ray.available_resources()["CPU"]
    left = before

    def interrupt(done: int, total: int, note: str = "") -> None:
        nonlocal left
        left = ray.available_resources().get("CPU", 0.0)
        raise KeyboardInterrupt

    sink = start_metrics_actor(job.run_uri, mlflow_place, "no-run", experiment="alexnet")
    with pytest.raises(KeyboardInterrupt):
        run_training(
            job,
            place_workers(cluster_resources(), 1),
            sink,
            max_failures=8,
            num_images=1,
            progress=interrupt,
            say=lambda _: None,
        )
    assert left < before
    # Who shuts Ray down with a thread inside it ends at once, with status 1.
    assert "ray-train-fit" not in {thread.name for thread in threading.enumerate()}
    finish_metrics(sink, 0.1)
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU", 0.0) < before:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # Nor do the workers come again.
    time.sleep(3)
    assert ray.available_resources()["CPU"] == before


@pytest.mark.ray
def test_a_killed_metrics_actor_starts_again_from_the_journal(
    ray_local: Any, tmp_path: Any, mlflow_place: Any
) -> None:
    from infra.store import FolderStore
    from infra.tracking.actor import start_metrics_actor
    from infra.tracking.journal import Journal
    from infra.tracking.points import MetricPoint

    points = [MetricPoint(key="train/loss", step=n, value=1.0, timestamp_ms=n) for n in range(3)]
    store = FolderStore(tmp_path / "run")
    sink = start_metrics_actor(store.uri, mlflow_place, "no-run", experiment="alexnet")
    ray.get(sink.record.remote(points[:1], (1, 128)))
    ray.get(sink.flush.remote())
    ray.kill(sink, no_restart=False)
    while ray.get(sink.position.remote()) is not None:  # the kill is under way
        time.sleep(0.05)
    ray.get(sink.record.remote(points, (3, 384)))
    ray.get(sink.flush.remote())
    assert ray.get(sink.position.remote()) == (3, 384)
    lost = [MetricPoint(key="train/loss", step=n, value=2.0, timestamp_ms=n) for n in range(3, 6)]
    ray.get(sink.record.remote(lost[:2], (5, 640)))
    ray.kill(sink, no_restart=False)
    while ray.get(sink.position.remote()) is not None:
        time.sleep(0.05)
    ray.get(sink.record.remote(lost[2:], (6, 768)))
    # Who is about to save gives again what came since the last save.
    ray.get(sink.flush.remote(lost))
    journal = Journal(store)
    kept = [p for n in range(journal.num_segments) for p in journal.segment(n + 1)]
    assert sorted(kept, key=lambda point: point.step) == points + lost
