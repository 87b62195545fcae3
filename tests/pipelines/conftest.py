"""A finished, evaluated training on random images, with the odd names that people give."""

import io
import json
import shutil
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.evaluate.evaluate import BlockEvaluator
from alexnet.evaluate.evaluation import Evaluation
from alexnet.evaluate.execute import _commit
from alexnet.evaluate.rows import join_results
from alexnet.release.gate import Verdict
from alexnet.release.registration import Registration
from alexnet.train.attempts import claim_attempt
from alexnet.train.checkpoint import CheckpointReceipt, read_tensors
from alexnet.train.filters import write_filters
from alexnet.train.training_receipt import FINISHED, TrainingReceipt
from alexnet.trained import trained_network
from infra.commit import write_object
from infra.parquet import parquet_bytes
from infra.store import FolderStore
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.place import TrackingPlace
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import open_run
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps.report import ReportStep
from pipelines.timeline import Timeline, write_note
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest, Reject
from preprocessing.dataset.rejects import rejects_table

# The tiny training of tests/alexnet.
_spec = spec_from_file_location(
    "alexnet_fixtures", Path(__file__).parents[1] / "alexnet" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

tiny_training = _fixtures.tiny_training
write_tiny_dataset = _fixtures._write_tiny_dataset

ODD = ("<script>alert(1)</script>", "りんご 'x'", "$a^2$ & $b$", 'a "b"', "Löwe", "{{ 7*7 }}", "")
STEPS = (0, 5, 10)
RUN_KEY = "0" * 64


@dataclass(frozen=True)
class FinishedRun:
    """All that a report is made of, in a workspace of its own."""

    workspace: FolderStore
    dataset: FolderStore
    manifest: Manifest
    run: FolderStore
    training: TrainingReceipt
    evaluated: FolderStore
    evaluation: Evaluation
    verdict: Verdict
    registration: Registration
    tracker: MemoryTracker
    run_id: str


def write_dataset(store: FolderStore) -> Manifest:
    """Give the tiny dataset other names, and a list of what was rejected."""
    manifest = Manifest.model_validate_json(store.read(MANIFEST))
    classes = make_classes({f"n{label:08}": name for label, name in enumerate(ODD)})
    rejects = [
        Reject(
            split="val",
            sample_id=sample_id,
            archive="val.tar",
            member="<i>3</i>.jpg",
            start=0,
            size_bytes=9,
            reason="not an image",
            first_bytes="",
        )
        for sample_id in (3, 40)
    ]
    manifest = manifest.model_copy(
        update={
            "name": "<em>tiny</em>",
            "classes": write_object(store, "classes.json", classes.to_bytes()),
            "rejects": write_object(
                store, "rejects.parquet", parquet_bytes(rejects_table(rejects))
            ),
        }
    )
    store.write(MANIFEST, manifest.to_bytes())
    return Manifest.model_validate_json(store.read(MANIFEST))


def write_checkpoint_of(run: FolderStore, manifest: Manifest) -> CheckpointReceipt:
    """Have the tiny checkpoint be of this dataset."""
    (path,) = Path(run.uri).glob("checkpoints/*/receipt.json")
    store = FolderStore(path.parent)
    state = json.loads(store.read("state.json")) | {"dataset_fingerprint": manifest.fingerprint}
    written = write_object(store, "state.json", json.dumps(state).encode())
    receipt = CheckpointReceipt.model_validate_json(store.read("receipt.json"))
    receipt = receipt.model_copy(update={"state": written})
    store.write("receipt.json", receipt.model_dump_json().encode())
    return receipt


@pytest.fixture(scope="session")
def evaluated_run(tiny_training: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with dataset, run and evaluation; copied by each test."""
    root = tmp_path_factory.mktemp("evaluated-run")
    dataset, run = FolderStore(root / "datasets" / "d"), FolderStore(root / "runs" / "r")
    shutil.copytree(tiny_training.store.uri, dataset.uri)
    shutil.copytree(Path(tiny_training.checkpoint.uri).parents[1], run.uri)
    manifest = write_dataset(dataset)
    receipt = write_checkpoint_of(run, manifest)
    checkpoint = run.child(receipt.folder)
    trained = trained_network(checkpoint, dataset, manifest)
    evaluator = BlockEvaluator(
        BlockReader(dataset, manifest),
        trained.load_model(),
        trained.load_augment(),
        crop_px=trained.augment.crop_px,
        views=("center",),
    )
    result = join_results([evaluator.evaluate(block) for block in plan_blocks(manifest.val)])
    _commit(result, trained, manifest, FolderStore(root / "evaluations" / "e"), "e")
    write_journal_and_filters(run, read_tensors(checkpoint, receipt.model))
    training = TrainingReceipt(
        run_key=RUN_KEY,
        step=STEPS[-1],  # more than the checkpoint has: its weights are fresh ones
        checkpoint=receipt.folder,
        model_sha256=receipt.model.sha256,
    )
    run.create(FINISHED, training.model_dump_json().encode())
    return root


def write_journal_and_filters(run: FolderStore, weights: dict[str, torch.Tensor]) -> None:
    claim_attempt(run, start_step=0, world_size=2)
    claim_attempt(run, start_step=5, world_size=1)
    keys = ("train/loss", "train/weight_rate", "perf/images_per_s", "perf/data_wait_frac")
    Journal(run).append(
        MetricPoint(key=key, step=step, value=0.5, timestamp_ms=1)
        for key in keys
        for step in range(1, STEPS[-1] + 1)
    )
    for step in STEPS:
        write_filters(run, step, weights)


@pytest.fixture
def finished_run(evaluated_run: Path, tmp_path: Path) -> FinishedRun:
    shutil.copytree(evaluated_run, tmp_path / "workspace")
    workspace = FolderStore(tmp_path / "workspace")
    run, evaluated = workspace.child("runs/r"), workspace.child("evaluations/e")
    tracker = MemoryTracker()
    made = Timeline("alexnet train '<b>.yaml'")
    made.started_at = "2026-01-31T12:00:00+00:00"
    with made.entry("train") as entry:
        entry.state = "ran"
    write_note(run, made.note("done"))
    return FinishedRun(
        workspace=workspace,
        dataset=workspace.child("datasets/d"),
        manifest=Manifest.model_validate_json(workspace.read(f"datasets/d/{MANIFEST}")),
        run=run,
        training=TrainingReceipt.model_validate_json(run.read("finished.json")),
        evaluated=evaluated,
        evaluation=Evaluation.model_validate_json(evaluated.read("evaluation.json")),
        verdict=Verdict(
            verdict="refused",
            reasons=("top-1 <0.9>",),
            champion="3",
            top1=0.1,
            champion_top1=0.9,
            mcnemar_p=0.001,
            per_class_regressions=(),
        ),
        registration=Registration(
            key="k",
            model_name="m",
            version="4",
            model_uri="models:/m/4",
            aliases=("challenger",),
            registry_id="memory",
        ),
        tracker=tracker,
        run_id=open_run(tracker, run, run_key=RUN_KEY, run_name="demo", timeout_s=30),
    )


def report_step(finished: FinishedRun, stream: io.StringIO | None = None) -> ReportStep:
    """The step, on what the steps before it would have found."""
    place = TrackingPlace("https://me:secret@mlflow.example.org", None, "memory")
    recipe = load_recipe("demo", ["train.epochs=2", "train.global_batch=4"])
    context = Context(recipe, finished.workspace, place, stream or io.StringIO())
    tracker: Any = finished.tracker
    context.tracker = tracker
    training = SimpleNamespace(
        store=finished.run,
        receipt=finished.training,
        checkpoint=finished.run.child(finished.training.checkpoint),
    )
    prepare: Any = SimpleNamespace(
        product=SimpleNamespace(store=finished.dataset, manifest=finished.manifest)
    )
    train: Any = SimpleNamespace(
        product=training,
        folder=lambda: finished.run,
        run=SimpleNamespace(ensure_id=lambda: finished.run_id),
    )
    evaluate: Any = SimpleNamespace(
        product=SimpleNamespace(store=finished.evaluated, evaluation=finished.evaluation)
    )
    gate: Any = SimpleNamespace(product=SimpleNamespace(verdict=finished.verdict, digest="v"))
    register: Any = SimpleNamespace(product=SimpleNamespace(registration=finished.registration))
    return ReportStep(context, prepare, train, evaluate, gate, register)


@pytest.fixture
def step_of() -> Any:
    """What makes a step; a fixture, for tests cannot import this file."""
    return report_step
