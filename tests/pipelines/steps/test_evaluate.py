"""When an evaluation holds; what is counted is tested in tests/alexnet/evaluate."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

from infra.store import FolderStore
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.place import place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps import evaluate as module
from pipelines.steps.evaluate import EvaluateStep
from pipelines.steps.prepare import Dataset
from pipelines.steps.training_run import TrainingRun


def evaluate_step(workspace: FolderStore, run: str) -> EvaluateStep:
    """The step on a training whose weights are those of every other."""
    context = Context(load_recipe("demo"), workspace, place_for(workspace, None), io.StringIO())
    manifest: Any = SimpleNamespace(name="tiny", fingerprint="f" * 64, stored_px=64)
    prepare: Any = SimpleNamespace(product=SimpleNamespace(manifest=manifest))
    receipt = SimpleNamespace(model_sha256="e" * 64)
    training = SimpleNamespace(store=workspace.child(f"runs/{run}"), receipt=receipt)
    shown = TrainingRun(
        tracker=MemoryTracker(),
        folder=training.store,
        run_key=run,
        recipe=context.recipe,
        dataset=Dataset(workspace, manifest),
        say=context.say,
    )
    train: Any = SimpleNamespace(product=training, run=shown)
    return EvaluateStep(context, prepare, train)


def test_an_evaluation_holds_when_this_trainings_run_has_its_results(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two trainings that end with the same weights, each has a run to show them."""
    made: list[object] = []
    evaluation = SimpleNamespace(center=SimpleNamespace(loss=0.5), views={}, step=3)
    monkeypatch.setattr(EvaluateStep, "_evaluate", lambda step: made.append(step))
    monkeypatch.setattr(module, "read_evaluation", lambda _: evaluation if made else None)
    monkeypatch.setattr(module, "open_evaluation", lambda _: evaluation)

    first = evaluate_step(workspace, "one")
    assert not first.look()
    first.make()
    assert first.look()
    second = evaluate_step(workspace, "two")
    assert not second.look()
    second.make()
    assert second.look()
    assert len(made) == 1
    for run in ("one", "two"):
        (point,) = Journal(workspace.child(f"runs/{run}")).segment(1)
        assert (point.key, point.step, point.value) == ("val/loss", 3, 0.5)
