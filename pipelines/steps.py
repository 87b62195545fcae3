"""The graph: which steps there are, and whose products each needs."""

from typing import Any

from pipelines.context import Context
from pipelines.evaluate import EvaluateStep
from pipelines.gate import GateStep
from pipelines.prepare import PrepareStep
from pipelines.register import RegisterStep
from pipelines.train import TrainStep
from pipelines.workflow import Step


def build_steps(context: Context, *, until: str) -> list[Step[Any]]:
    """Return the steps up to and including the one of this name, in order."""
    prepare = PrepareStep(context)
    train = TrainStep(context, prepare)
    evaluate = EvaluateStep(context, prepare, train)
    gate = GateStep(context, prepare, evaluate)
    register = RegisterStep(context, prepare, train, evaluate, gate)
    steps: list[Step[Any]] = [prepare, train, evaluate, gate, register]
    names = [step.name for step in steps]
    return steps[: names.index(until) + 1]
