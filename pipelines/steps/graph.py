"""The graph: which steps there are, and whose products each needs."""

from collections.abc import Sequence
from typing import Any

from infra.errors import RecipeError
from infra.store import ObjectStore
from pipelines.context import Context
from pipelines.steps.evaluate import EvaluateStep
from pipelines.steps.gate import GateStep
from pipelines.steps.prepare import PrepareStep
from pipelines.steps.register import RegisterStep
from pipelines.steps.report import ReportStep
from pipelines.steps.train import TrainStep
from pipelines.workflow import Step


def build_steps(context: Context, *, until: str) -> list[Step[Any]]:
    """Return the steps up to and including the one of this name, in order.

    Raises:
        RecipeError: there is no such step.
    """
    prepare = PrepareStep(context)
    train = TrainStep(context, prepare)
    evaluate = EvaluateStep(context, prepare, train)
    gate = GateStep(context, prepare, evaluate)
    register = RegisterStep(context, prepare, train, evaluate, gate)
    report = ReportStep(context, prepare, train, evaluate, gate, register)
    steps: list[Step[Any]] = [prepare, train, evaluate, gate, register, report]
    names = [step.name for step in steps]
    if until not in names:
        raise RecipeError(f"there is no step {until!r}", remedy=f"name one of {', '.join(names)}")
    return steps[: names.index(until) + 1]


def run_folder(context: Context, steps: Sequence[Step[Any]]) -> ObjectStore | None:
    """Return the folder of the training that these steps are about; None until it is known."""
    prepare = steps[0]
    if not isinstance(prepare, PrepareStep) or not prepare.is_done:
        return None
    return TrainStep(context, prepare).folder()
