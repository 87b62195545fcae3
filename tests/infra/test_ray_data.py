import math
import time
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.data import ExecutionResources, TaskPoolStrategy
from ray.data._internal.cluster_autoscaler import DefaultAutoscalingCoordinator
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import (
    STANDARD_RESOURCE_TYPES,
)

from infra import ray_data
from infra.errors import DataError, NoRoomForWorkers, ProjectError, RecipeError, ServiceError

# Ray's own, when it makes its context.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:DeprecationWarning:ray.data.context"
)


@pytest.mark.parametrize("kind", [DataError, ServiceError, RecipeError, ProjectError])
def test_an_error_comes_out_of_its_block_as_it_went_in(kind: type[ProjectError]) -> None:
    block = ray_data.error_block(kind("the disk is on fire", remedy="pour water"))
    with pytest.raises(kind) as caught:
        ray_data.raise_error_in(block)
    assert caught.value.problem == "the disk is on fire"
    assert caught.value.remedy == "pour water"
    assert caught.value.exit_code == kind.exit_code


def test_an_error_behind_a_tasks_answers_comes_out_too() -> None:
    """Ray joins what a task yields."""
    answers = pa.table({"label": [1, 2]})
    joined = pa.concat_tables(
        [answers, ray_data.error_block(ServiceError("away", remedy="wait"))],
        promote_options="default",
    )
    with pytest.raises(ServiceError, match="away"):
        ray_data.raise_error_in(joined)


def test_a_block_of_output_raises_nothing() -> None:
    ray_data.raise_error_in(ray_data.error_block(DataError("x", remedy="y")).drop_columns("error"))


def test_the_executors_loop_is_held_to_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it turns without end while training is slower than reading, and takes a core from it."""
    now_s = 1000.0
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        pauses.append(seconds)

    monkeypatch.setattr(ray_data, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    pause = ray_data._Pause()
    for work_s in (0.0, 0.0, 0.005, 0.0):
        now_s += work_s
        pause.on_execution_step(None)
    look_s = ray_data.LOOK_EVERY_S
    assert pauses == pytest.approx([0.0, look_s, look_s - 0.005, look_s])
    now_s += 2 * look_s
    pause.on_execution_step(None)  # a turn that lasted long is not made longer
    assert pauses[-1] == 0.0
    assert ray_data._Pause in ray_data.configure_ray_data(1.0).custom_execution_callback_classes


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_planned_tasks_run_at_once_however_many_others_read() -> None:
    """Among that many readers Ray deals out no CPU to any."""
    others = [DefaultAutoscalingCoordinator(f"reader-{number}") for number in range(8)]
    for other in others:
        other.request_resources([], 180, STANDARD_RESOURCE_TYPES)

    def work(rows: pa.Table) -> pa.Table:
        started_at = time.time()
        time.sleep(1.0)
        return pa.table({"start": [started_at], "stop": [time.time()]})

    try:
        ray_data.configure_ray_data(3 * 0.25)
        tasks = ray.data.from_items(list(range(6)), override_num_blocks=6).map_batches(
            work,
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=0.25,
            compute=TaskPoolStrategy(size=3),
        )
        spans = [(row["start"], row["stop"]) for row in tasks.take_all()]
    finally:
        for other in others:
            other.cancel_request()
    at_once = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert max(at_once) >= 2  # three, where starting a third process takes less than a second


def test_an_execution_believes_to_have_the_gpus_planned_for_it() -> None:
    """Half of a node's only GPU is none, and an actor that died there would not be replaced."""
    manager = SimpleNamespace(_get_total_resources=lambda: ExecutionResources(cpu=0, gpu=0))
    context = ray_data.configure_ray_data(1.5, gpus=2.0)
    executor = SimpleNamespace(_topology=(), _data_context=context, _resource_manager=manager)
    ray_data._OwnLimits().before_execution_starts(executor)
    found = manager._get_total_resources()
    assert (found.cpu, found.gpu) == (1.5, 2.0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_tasks_that_find_nothing_to_run_on_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_data, "SILENCE_S", 0.5)
    ray_data.configure_ray_data(0.5, gpus=1.0)
    tasks = ray.data.from_items([1]).map_batches(_slowly, batch_size=1, num_cpus=0.5, num_gpus=1)
    with pytest.raises(NoRoomForWorkers, match="has given anything for") as caught:
        list(tasks.iter_internal_ref_bundles())
    assert "ray status" in caught.value.remedy


def test_silence_is_counted_while_someone_waits_and_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not while a step, a checkpoint or a compiler keeps the reader from asking."""
    monkeypatch.setattr(ray_data, "SILENCE_S", 10.0)
    now = [0.0]
    monkeypatch.setattr(ray_data, "time", SimpleNamespace(monotonic=lambda: now[0]))
    metrics, state = SimpleNamespace(num_outputs_taken=0), SimpleNamespace(num_waiting_consumers=0)
    executor = SimpleNamespace(_output_node=(SimpleNamespace(metrics=metrics), state))
    silence = ray_data._Silence()

    def look(at_s: float, *, blocks: int, waiting: int) -> None:
        now[0], metrics.num_outputs_taken, state.num_waiting_consumers = at_s, blocks, waiting
        silence.on_execution_step(executor)

    look(100, blocks=0, waiting=0)
    look(109, blocks=0, waiting=1)
    look(118, blocks=1, waiting=1)
    look(127, blocks=1, waiting=1)
    with pytest.raises(NoRoomForWorkers):
        look(129, blocks=1, waiting=1)


def _slowly(rows: Any) -> Any:
    time.sleep(0.3)
    return rows


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_an_execution_fills_no_more_of_the_object_stores_than_it_may() -> None:
    """Ray deals out those of all nodes, wherever the tasks run."""
    found: list[float] = []

    class Look:
        def before_execution_starts(self, executor: Any) -> None:
            pass

        def on_execution_step(self, executor: Any) -> None:
            manager = executor._resource_manager
            manager._global_limits_last_update_time = 0.0  # it looks once a second
            found.append(manager.get_global_limits().object_store_memory)

        def after_execution_succeeds(self, executor: Any) -> None:
            pass

    for store_bytes in (3e6, math.inf):
        context = ray_data.configure_ray_data(1.0, store_bytes=store_bytes)
        context.custom_execution_callback_classes += [Look]
        ray.data.from_items([1]).map_batches(_slowly, num_cpus=0.5).take_all()
        dealt_out = [limit for limit in found if limit]  # none before the coordinator's answer
        found.clear()
        if math.isfinite(store_bytes):
            assert set(dealt_out) == {store_bytes}
        else:
            assert max(dealt_out) > 3e6
