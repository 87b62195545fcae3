"""What the steps after training are found by and come to, written down.

Training's and prepare's are in tests/alexnet/train/test_job.py, test_pinned_training.py and
tests/preprocessing/test_prepare.py.

If one of these changes, everybody's finished work is done again: mean it. If what a step computes
changes and its key does not, old results are taken for new ones: raise the step's VERSION by hand
(pipelines/steps/evaluate.py, gate.py, register.py), pin anew, and say which in the commit.
"""

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.evaluate.evaluate import BlockEvaluator
from alexnet.evaluate.evaluation import Accuracy, Evaluation
from alexnet.evaluate.rows import join_results
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.release.gate import Contender, judge
from alexnet.release.settings import GateSettings
from alexnet.settings import AugmentSettings
from infra.canonical import sha256_hex
from infra.commit import StoredObject
from infra.store import FolderStore
from infra.tracking.place import place_for
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.evaluate import Evaluated, evaluation_folder, evaluation_key
from pipelines.steps.gate import GateStep, Judged
from pipelines.steps.prepare import Dataset
from pipelines.steps.register import RegisterStep
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import Manifest, Shard, Split

COUNTED = {"center": (19, 102, 2.06256), "ten_crop": (19, 102, 2.06323)}
"""Of 150 images: right at 1, right at 5, mean loss."""
CLASSES = make_classes({"n0": "ant", "n1": "bee"})


def stored(digit: str) -> StoredObject:
    return StoredObject(path=f"{digit}.parquet", size_bytes=1, sha256=digit * 64)


def manifest() -> Manifest:
    def split(digit: str, stop: int) -> Split:
        return Split(shards=(Shard(**stored(digit).model_dump(), start=0, stop=stop, holes=()),))

    return Manifest(
        name="fixed",
        key="fixed",
        num_classes=2,
        height_px=8,
        width_px=8,
        rows_per_group=4,
        train=split("1", 8),
        val=split("2", 40),
        classes=stored("3"),
        statistics=stored("4"),
        members=stored("5"),
        rejects=stored("6"),
        num_rejects=0,
        made_with={},
    )


def evaluation(right: int = 30) -> Evaluation:
    center = Accuracy(top1=right / 40, top5=1.0, correct1=right, correct5=40, loss=0.5)
    return Evaluation(
        key="k",
        dataset_fingerprint="a" * 64,
        validation_digest="b" * 64,
        classes_digest="c" * 64,
        checkpoint_digest="d" * 64,
        step=9,
        count=40,
        center=center,
        ten_crop=None,
        per_class=stored("7"),
        confusion=stored("8"),
        predictions=stored("9"),
    )


def contender(right: int, name: str) -> Contender:
    ids = np.arange(40)
    return Contender(
        name=name,
        evaluation=evaluation(right),
        sample_ids=ids,
        labels=ids % 2,
        correct=ids < right,
    )


@pytest.fixture
def context(workspace: FolderStore) -> Context:
    place = place_for(workspace, None)
    return Context(load_recipe("demo"), workspace, place, io.StringIO())


def gate_step(context: Context, *settings: str) -> GateStep:
    context.recipe = load_recipe("demo", settings)
    found: Any = SimpleNamespace(product=Evaluated(context.workspace, evaluation()))
    return GateStep(context, SimpleNamespace(), found)


def register_step(context: Context, judged: Judged, *settings: str) -> RegisterStep:
    context.recipe = load_recipe("demo", settings)
    evaluate: Any = SimpleNamespace(product=Evaluated(context.workspace, evaluation()))
    gate: Any = SimpleNamespace(product=judged)
    nothing: Any = SimpleNamespace()
    return RegisterStep(context, nothing, nothing, evaluate, gate)


def test_an_evaluations_key(workspace: FolderStore) -> None:
    dataset = Dataset(workspace, manifest())
    plain, scaled = AugmentSettings(crop_px=40), AugmentSettings(crop_px=40, view_px=44)
    ten = EvaluateSettings(ten_crop=True)
    keys = [
        evaluation_key(model_sha256=digit * 64, dataset=dataset, augment=augment, settings=settings)
        for digit, augment, settings in (
            ("e", plain, ten),
            ("e", plain, EvaluateSettings(ten_crop=False)),
            ("f", plain, ten),
            ("e", scaled, ten),  # the training is the same, and so may the weights be
            ("e", plain, EvaluateSettings(nine_crop=True)),
            ("e", plain, EvaluateSettings(ten_crop=False, nine_crop=True)),
        )
    ]
    assert keys[0] == "b8c8a934ab202ae7427445af528f1c733e26b8add77d79f76e3603acc10b4c8d"
    assert len(set(keys)) == 6
    sides = [
        evaluation_key(
            model_sha256="e" * 64, dataset=dataset, augment=plain, settings=ten, stored_px=side_px
        )
        for side_px in (dataset.manifest.height_px, dataset.manifest.height_px + 8)
    ]
    assert sides[0] == keys[0]
    assert sides[1] not in keys  # scaled to what the network was trained on
    folder = evaluation_folder(workspace, keys[0]).uri
    assert folder == f"{workspace.uri}/evaluations/{keys[0][:16]}"


def test_a_gates_folder(context: Context, workspace: FolderStore) -> None:
    folder = gate_step(context).folder().uri
    assert folder == f"{workspace.uri}/gates/c3a0b90beae3e8fa"


@pytest.mark.parametrize(
    ("setting", "is_in_the_key"),
    [
        ("gate.min_top1=0.8", True),
        ("gate.min_gain=0.01", True),
        ("register.model_name=other", True),
        ("train.epochs=9", False),  # through the evaluation, not by itself
        ("scaling.workers=2", False),
        ("tracking.experiment=other", False),
    ],
)
def test_what_a_verdict_depends_on(context: Context, setting: str, *, is_in_the_key: bool) -> None:
    before = gate_step(context).folder().uri
    assert (gate_step(context, setting).folder().uri != before) is is_in_the_key


def test_another_registry_is_another_verdict(context: Context, workspace: FolderStore) -> None:
    before = gate_step(context).folder().uri
    context.tracking = place_for(workspace, "https://mlflow.example.org")
    assert gate_step(context).folder().uri != before


@pytest.mark.parametrize(
    ("right", "champion", "digest"),
    [
        (30, None, "40c69e9aa0559264"),
        (30, 29, "a37ba25f81e0de29"),
        (20, 30, "501c482c56418720"),
    ],
)
def test_a_verdict_to_the_byte(right: int, champion: int | None, digest: str) -> None:
    verdict = judge(
        contender(right, "candidate"),
        None if champion is None else contender(champion, "7"),
        GateSettings(min_top1=0.6),
        CLASSES,
    )
    assert sha256_hex(verdict.to_bytes())[:16] == digest


def test_a_registrations_folder(context: Context, workspace: FolderStore) -> None:
    def judged(champion: int | None) -> Judged:
        theirs = None if champion is None else contender(champion, "7")
        verdict = judge(contender(30, "candidate"), theirs, GateSettings(), CLASSES)
        return Judged(workspace, verdict)

    folder = register_step(context, judged(None)).folder().uri
    assert folder == f"{workspace.uri}/registrations/7a0d7542511bdcca"
    # Judged again against another champion: another receipt, though the same version.
    assert register_step(context, judged(29)).folder().uri != folder
    other = register_step(context, judged(None), "register.model_name=other")
    assert other.folder().uri != folder


@pytest.mark.usefixtures("one_thread")
def test_what_an_evaluation_counts(tiny_training: Any) -> None:
    """Of fresh weights on random images. A close call may tip on another processor."""
    manifest, trained = tiny_training.manifest, tiny_training.trained
    reader = BlockReader(tiny_training.store, manifest)
    evaluator = BlockEvaluator(
        reader,
        trained.load_model(),
        trained.load_augment(),
        crop_px=40,
        views=("center", "ten_crop"),
    )
    result = join_results([evaluator.evaluate(block) for block in plan_blocks(manifest.val)])
    reader.close()
    found = {
        view: (int((rows.rank == 0).sum()), int((rows.rank < 5).sum()), float(rows.loss.mean()))
        for view, rows in result.views.items()
    }
    assert found.keys() == COUNTED.keys()
    for view, (right1, right5, loss) in COUNTED.items():
        assert found[view][0] == pytest.approx(right1, abs=1)
        assert found[view][1] == pytest.approx(right5, abs=1)
        assert found[view][2] == pytest.approx(loss, rel=1e-4)
