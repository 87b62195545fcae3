"""Ray Data as it is used here: in plan order, silent, and with errors that keep what they say."""

import math
import time
from typing import Any, Final

import pyarrow as pa
from ray.data import DataContext, ExecutionResources
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator

from infra.errors import DataError, NoRoomForWorkers, ProjectError, RecipeError, ServiceError

LOOK_EVERY_S: Final = 0.02
"""The least time between two looks at the tasks; the executor's own is 0.1 s, or none at all."""

RETRIES: Final = 5
"""Of a task whose process died. Ray Data's own have no end: what kills the process that reads it, a
file that crashes its decoder say, would be read for ever."""

SILENCE_S: Final = 900.0
"""Of all tasks: longer than any block takes, a store that is away for minutes included."""

_PLANNED: Final = "alexnet.planned"
"""The key of a context's own settings: CPUs and GPUs."""
_KINDS: Final = (DataError, ServiceError, RecipeError)


class _Pause(ExecutionCallback):  # type: ignore[misc]  # Ray ships no types
    """Ends each turn of the executor's loop with a pause.

    Where training is slower than reading, the tasks' unread output is ready all the time and Ray
    Data's loop turns without a pause: in a thread of the train worker, which lost its lock and most
    of a core to it (docs/experiments.md: 75 to 200 images/s where 380 to 490 are possible).
    """

    def __init__(self) -> None:
        self._turned_at = 0.0

    def on_execution_step(self, executor: object) -> None:
        """Wait until a turn has lasted LOOK_EVERY_S."""
        time.sleep(max(0.0, self._turned_at + LOOK_EVERY_S - time.monotonic()))
        self._turned_at = time.monotonic()


class _OwnLimits(ExecutionCallback):  # type: ignore[misc]  # Ray ships no types
    """Lets an execution use the CPUs and GPUs planned for it, and lets no task die for ever.

    Ray 2.60 divides what is left of each node among all readers of the cluster and rounds down to
    whole CPUs: 56 CPUs among the 64 ranks of eight nodes are none for each, and one task at a time.
    So is a node's only GPU between a prediction and any other reader.
    What a task books is still the raylets' to grant. Retries are no named parameter there any more.
    """

    def before_execution_starts(self, executor: Any) -> None:  # noqa: ANN401 - Ray ships no types
        """Raise what the execution believes to have, if it is less than planned; bound retries."""
        for operator in executor._topology:
            if isinstance(operator, TaskPoolMapOperator):
                operator._ray_remote_args = {**operator._ray_remote_args, "max_retries": RETRIES}
            if isinstance(operator, ActorPoolMapOperator):
                arguments = operator._ray_actor_task_remote_args
                operator._ray_actor_task_remote_args = {**arguments, "max_task_retries": RETRIES}
        cpus, gpus = executor._data_context.get_config(_PLANNED)
        manager = executor._resource_manager
        dealt_out = manager._get_total_resources

        def at_least_planned() -> Any:  # noqa: ANN401
            found = dealt_out()
            return found.copy(cpu=max(found.cpu or 0.0, cpus), gpu=max(found.gpu or 0.0, gpus))

        manager._get_total_resources = at_least_planned


class _Silence(ExecutionCallback):  # type: ignore[misc]  # Ray ships no types
    """Ends an execution whose reader waits, and which has given nothing for long.

    Tasks wait in Ray's queue without end and without a word where what they book is gone from the
    cluster, or others have it.
    """

    def __init__(self) -> None:
        self._heard_at = time.monotonic()
        self._num_blocks = 0

    def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray ships no types
        """Look whether something came since the last turn, or nobody waits for it.

        Raises:
            NoRoomForWorkers: nothing did in SILENCE_S; whoever reads gets it.
        """
        operator, state = executor._output_node
        num_blocks, now = operator.metrics.num_outputs_taken, time.monotonic()
        if num_blocks != self._num_blocks or not state.num_waiting_consumers:
            self._heard_at, self._num_blocks = now, num_blocks
        if now - self._heard_at > SILENCE_S:
            raise NoRoomForWorkers(
                f"no task that reads or computes has given anything for {SILENCE_S:.0f} s",
                remedy="the CPUs or GPUs that they need may be gone, or others may have them"
                " (on a cluster see `ray status`); then run again",
            )


def configure_ray_data(
    cpus: float, *, gpus: float = 0.0, store_bytes: float = math.inf
) -> DataContext:
    """Set this process's Ray Data: plan order, pauses, no bars; return the context for more.

    An execution that gives nothing for SILENCE_S while its reader waits raises NoRoomForWorkers.

    Args:
        cpus: what the tasks or actors that are to run at once book together.
        gpus: the same of GPUs.
        store_bytes: of object stores, what an execution may fill at most; Ray Data deals out those
            of all nodes, wherever its tasks run.
    """
    context = DataContext.get_current()
    context.custom_execution_callback_classes = [_Pause, _OwnLimits, _Silence]
    context.set_config(_PLANNED, (cpus, gpus))
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=store_bytes
    )
    context.execution_options.verbose_progress = False
    context.enable_progress_bars = False
    # By default one process that is lost while it starts ends all.
    context.max_consecutive_actor_init_deaths = RETRIES
    context.print_on_execution_start = False
    return context


def error_block(error: ProjectError) -> pa.Table:
    """Write a deliberate error as a block that a task yields in place of its output.

    Ray Data would wrap the exception in its own and lose what it says and does.
    """
    return pa.table(
        {
            "error": [type(error).__name__],
            "problem": [error.problem],
            "remedy": [error.remedy],
            "exit_code": [int(error.exit_code)],
        }
    )


def raise_error_in(block: pa.Table) -> None:
    """Raise the error that a block holds, if it is one: of the kind with its exit code.

    Raises:
        ProjectError: the task's.
    """
    if "error" not in block.column_names:
        return
    # Ray may have joined it to what the task had yielded before.
    row = block.filter(block["error"].is_valid()).to_pylist()[0]
    kind = next((kind for kind in _KINDS if kind.exit_code == row["exit_code"]), ProjectError)
    raise kind(row["problem"], remedy=row["remedy"])
