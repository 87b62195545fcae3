"""Failures someone can act on, and the exit code each ends with.

    ProjectError
    ├── RecipeError        2   the command or the recipe is wrong
    │   └── ClusterTooSmall    it asks for more than the cluster holds
    ├── DataError          3   the data is wrong
    │   ├── ObjectCorrupt      stored bytes differ from what their receipt says
    │   └── (preprocessing.errors: archives, devkit, rejects, manifest)
    ├── ServiceError       4   a place or a service is missing, refuses or stayed away
    │   ├── StoreError         a workspace or an archive's place
    │   ├── TrackingError      MLflow
    │   ├── NoRoomForWorkers   the cluster has lost a part since the workers were placed
    │   ├── WorkersNotJoined   they had room, and did not find each other
    │   ├── WorkersDied        they did, again and again
    │   └── LeaseLost          another process took this piece of work over
    ├── GateRefused        5   the gate said no: a result, not a fault
    └── Interrupted      130   stopped by Ctrl-C or SIGTERM; run again to go on

Everything else is a bug (1), the only case that shows a traceback.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What the shell sees."""

    DONE = 0
    BUG = 1
    RECIPE = 2
    DATA = 3
    SERVICE = 4
    REFUSED = 5
    INTERRUPTED = 130


class ProjectError(Exception):
    """A failure someone can act on: says what is wrong, and what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    # Exceptions cross process borders in Ray; the default would call __init__ without the remedy.
    def __reduce__(self) -> tuple[Callable[..., "ProjectError"], tuple[Any, ...]]:
        return _rebuild, (type(self), self.problem, self.remedy)


def _rebuild(kind: type[ProjectError], problem: str, remedy: str) -> ProjectError:
    return kind(problem, remedy=remedy)


class RecipeError(ProjectError):
    """The command or the recipe is wrong."""

    exit_code = ExitCode.RECIPE


class ClusterTooSmall(RecipeError):
    """The recipe asks for more workers than the cluster can hold."""


class DataError(ProjectError):
    """The data is wrong: missing, cut, not what it claims to be."""

    exit_code = ExitCode.DATA


class ObjectCorrupt(DataError):
    """Stored bytes are not those their receipt names."""


class ServiceError(ProjectError):
    """A place or service is missing, refuses, or stayed away."""

    exit_code = ExitCode.SERVICE


class StoreError(ServiceError):
    """A store cannot be read or written."""


class TrackingError(ServiceError):
    """MLflow cannot be reached, or refuses."""


class NoRoomForWorkers(ServiceError):
    """The cluster has lost a part since it was shared out: workers or their tasks do not fit."""


class WorkersNotJoined(ServiceError):
    """The workers had room, but no group came about: a port was taken, a node cannot be reached."""


class WorkersDied(ServiceError):
    """Workers ended without a reason of ours (lost memory, a lost node), too often."""


class LeaseLost(ServiceError):
    """Another process took over the work this one was doing."""


class GateRefused(ProjectError):
    """The gate said no."""

    exit_code = ExitCode.REFUSED


class Interrupted(ProjectError):
    """Someone stopped the command; its state is consistent."""

    exit_code = ExitCode.INTERRUPTED
