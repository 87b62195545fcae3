"""What a worker tells the driver; training itself is in test_loop and the end-to-end tests."""

from typing import Any

import pytest
import ray
import torch

from alexnet.train import worker
from alexnet.train.worker import train_on_worker
from infra.errors import ProjectError, RecipeError, StoreError

FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of"
    " which 1.06 GiB is free. Including non-PyTorch memory, this process has 78.04 GiB memory in"
    " use. If reserved but unallocated memory is large try setting this and that."
)


@ray.remote(num_cpus=0)
class Sink:
    """What a worker asks of the metrics actor."""

    def __init__(self) -> None:
        self._failure: ProjectError | None = None
        self._crashes: dict[int, str] = {}

    def note_crash(self, attempt: int, text: str) -> None:
        self._crashes[attempt] = text

    def crashes(self) -> dict[int, str]:
        return self._crashes

    def fail(self, error: ProjectError) -> None:
        self._failure = error

    def flush(self) -> None:
        raise StoreError("the disk is full", remedy="make room")

    def failure(self) -> ProjectError | None:
        return self._failure


@pytest.mark.ray
def test_a_gpu_that_is_too_small_is_told_and_not_tried_again(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    class Worker:
        def __init__(self, *_: Any) -> None:
            starts.append(self)

        def run(self) -> None:
            raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(worker, "_Worker", Worker)
    monkeypatch.setattr(worker.TrainJob, "model_validate_json", lambda _: None)
    sink = Sink.remote()
    config = {"sink": sink, "placement": None, "job": "{}"}
    with pytest.raises(RecipeError):
        train_on_worker(config)
    told = ray.get(sink.failure.remote())
    assert isinstance(told, RecipeError)
    assert told.problem.endswith(
        "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11"
        " GiB of which 1.06 GiB is free"
    )
    assert "scaling.microbatch" in told.remedy
    train_on_worker(config)
    assert len(starts) == 1


@pytest.mark.ray
def test_what_the_metrics_actor_raised_is_left_for_the_driver_as_it_was(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink.remote()

    class Worker:
        def __init__(self, *_: Any) -> None: ...

        def run(self) -> None:
            ray.get(sink.flush.remote())

    monkeypatch.setattr(worker, "_Worker", Worker)
    monkeypatch.setattr(worker.TrainJob, "model_validate_json", lambda _: None)
    with pytest.raises(StoreError) as caught:
        train_on_worker({"sink": sink, "placement": None, "job": "{}"})
    told = ray.get(sink.failure.remote())
    for error in (told, ray.cloudpickle.loads(ray.cloudpickle.dumps(caught.value))):
        assert type(error) is StoreError
        assert (error.problem, error.remedy) == ("the disk is full", "make room")


def test_a_bug_leaves_its_whole_traceback_with_its_attempt(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worker:
        attempt = 3

        def __init__(self, *_: Any) -> None:
            pass

        def run(self) -> None:
            raise KeyError("no such thing")

    monkeypatch.setattr(worker, "_Worker", Worker)
    monkeypatch.setattr(worker.TrainJob, "model_validate_json", lambda _: None)
    sink = Sink.remote()
    with pytest.raises(KeyError):
        train_on_worker({"sink": sink, "placement": None, "job": "{}"})
    (text,) = ray.get(sink.crashes.remote()).values()
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("KeyError: 'no such thing'\n")
    assert ray.get(sink.failure.remote()) is None  # another attempt may get over it
