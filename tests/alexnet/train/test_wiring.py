"""Every setting of a training reaches it; by what it changes, not by what is called."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alexnet.data.image_draws import ImageDraws
from alexnet.data.in_process import read_batches
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.reader import ReadSpec
from alexnet.settings import (
    AugmentSettings,
    MixingSettings,
    NetworkSettings,
    OptimizerSettings,
    ProgressiveSize,
    ResizedCrop,
)
from alexnet.train import wiring
from alexnet.train.attempts import claim_attempt, read_attempts
from alexnet.train.checkpoint import (
    TrainState,
    find_sound_checkpoint,
    open_checkpoint,
    read_tensors,
    write_checkpoint,
)
from alexnet.train.job import TrainJob
from alexnet.train.loop import Learner, train_loop
from alexnet.train.optimizer import optimizer_state, set_rates
from alexnet.train.schedule import Rates
from alexnet.train.schedule_settings import CosineSchedule, PlateauSchedule
from alexnet.train.settings import CheckpointSettings, TrainSettings
from alexnet.train.wiring import make_learner, plan_of
from alexnet.train.world import World
from infra.progress import no_progress
from infra.store import open_store
from preprocessing.dataset.statistics import read_statistics

CPU = torch.device("cpu")
# The dataset has 20 images of 48 px.
TRAIN = TrainSettings(
    epochs=4,
    global_batch=8,
    augment=AugmentSettings(crop_px=40),
    schedule=CosineSchedule(weight_rate=0.01, bias_rate=0.02),
)

CHANGES: dict[str, tuple[object, set[str]]] = {
    "epochs": (5, {"plan"}),
    "seed": (1, {"plan", "read", "order", "network", "updates"}),
    "global_batch": (5, {"plan", "read", "order"}),
    "order": ("fixed", {"read", "order"}),
    "precision": ("bf16", {"plan"}),
    "label_smoothing": (0.1, {"plan"}),
    "augment": (AugmentSettings(crop_px=40, crop_sharing=4, scale=2), {"plan", "read", "inputs"}),
    "mixing": (MixingSettings(cutmix=1.0), {"plan", "read", "order"}),
    "progressive": (ProgressiveSize(first_px=16), {"plan"}),
    "optimizer": (OptimizerSettings(momentum=0.5), {"updates"}),
    "schedule": (PlateauSchedule(weight_rate=0.01, bias_rate=0.02), {"plan", "losses"}),
    "average_decay": (0.9, {"average"}),
}
"""A value of each setting, and what of a training is another by it."""
BOOKKEEPING = {"log_every_steps", "sample_log"}
"""How often is reported, and where samples are recorded: nothing that is learned."""

OPTIMIZER_CHANGES: dict[str, object] = {
    "kind": "sgd",
    "momentum": 0.5,
    "second_momentum": 0.9,
    "epsilon": 0.1,
    "nesterov": True,
    "weight_decay": 0.1,
    "layer_decay": {"conv2": 0.1},
    "decay_all": True,
    "lars_trust": 0.1,
    "clip_norm": 0.5,
}
ADAMW_ONLY = {"second_momentum", "epsilon"}

SHARED_WITH_THE_READER: dict[str, object] = {
    "crop_px": 36,
    "crop_sharing": 4,
    "resized_crop": ResizedCrop(),
}


def job_of(data: Any, train: TrainSettings = TRAIN, **changes: Any) -> TrainJob:
    job = TrainJob(
        run_key="0" * 64,
        run_uri="/run",
        dataset_uri=data.store.uri,
        dataset_fingerprint=data.manifest.fingerprint,
        num_classes=data.manifest.num_classes,
        network=NetworkSettings(width=0.05, init="fan-in"),
        train=train,
        checkpoint=CheckpointSettings(),
    )
    return job.model_copy(update=changes)


def learner_of(data: Any, job: TrainJob, world: World | None = None) -> Learner:
    statistics = InputStatistics.of(read_statistics(data.store, data.manifest.statistics))
    with torch.random.fork_rng():
        return make_learner(job, statistics, CPU, world or World())


def wired(data: Any, job: TrainJob) -> dict[str, object]:
    """All that a training is made of, in a form that can be compared."""
    learner, order = learner_of(data, job), job.order(data.manifest)
    average = learner.average
    return {
        "plan": plan_of(job, order),
        "read": job.read_spec,
        "order": order,
        "network": [tensor.tolist() for tensor in learner.model.state_dict().values()],
        "inputs": _inputs(learner, job),
        "average": None if average is None else _averaged(learner),
        "losses": learner.losses is not None,
        "updates": _updated(learner),
    }


def _inputs(learner: Learner, job: TrainJob) -> list[object]:
    """What the network sees of grey images."""
    side_px = job.train.augment.crop_px
    grey = torch.full((2, side_px, side_px, 3), 128, dtype=torch.uint8)
    draws = ImageDraws(noise=torch.arange(2))
    seen: list[object] = learner.augment.training_inputs(grey, draws).tolist()
    return seen


def _averaged(learner: Learner) -> list[float]:
    """How far the average has come after many updates to weights of one."""
    assert learner.average is not None
    bias = learner.model.get_parameter("conv1.bias")
    with torch.no_grad():
        kept = bias.clone()
        bias.fill_(1.0)
        learner.average.update(10**6)
        bias.copy_(kept)
    values: list[float] = learner.average.state()["conv1.bias"].tolist()
    return values


def _updated(learner: Learner) -> list[object]:
    """The weights after two updates along gradients that are as large as the weights."""
    set_rates(learner.optimizer, Rates(weight_rate=0.1, bias_rate=0.2))
    for _ in range(2):
        for weight in learner.model.parameters():
            weight.grad = weight.detach() + 0.1
        learner.optimizer.step()
    return [weight.tolist() for weight in learner.model.parameters()]


def parts_changed(data: Any, job: TrainJob, other: TrainJob) -> set[str]:
    ours, theirs = wired(data, job), wired(data, other)
    return {name for name in ours if ours[name] != theirs[name]}


def test_every_setting_is_known_here() -> None:
    assert set(CHANGES) | BOOKKEEPING == set(TrainSettings.model_fields)
    assert set(OPTIMIZER_CHANGES) == set(OptimizerSettings.model_fields)
    of_crops = {field.name for field in fields(ReadSpec)} & set(AugmentSettings.model_fields)
    assert set(SHARED_WITH_THE_READER) == of_crops


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_of_a_training_changes_what_is_made_of_it(
    tiny_training: Any, name: str
) -> None:
    value, parts = CHANGES[name]
    changed = TRAIN.model_copy(update={name: value})
    job, other = job_of(tiny_training), job_of(tiny_training, changed)
    assert parts_changed(tiny_training, job, other) == parts


@pytest.mark.parametrize("name", OPTIMIZER_CHANGES)
def test_each_setting_of_the_update_rule_changes_an_update(tiny_training: Any, name: str) -> None:
    rule = {"kind": "adamw", "weight_decay": 0.0005} if name in ADAMW_ONLY else {}
    job, other = (
        job_of(
            tiny_training,
            TRAIN.model_copy(update={"optimizer": OptimizerSettings.model_validate(settings)}),
        )
        for settings in (rule, rule | {name: OPTIMIZER_CHANGES[name]})
    )
    assert parts_changed(tiny_training, job, other) == {"updates"}


@pytest.mark.parametrize("name", SHARED_WITH_THE_READER)
def test_each_setting_of_crops_changes_what_is_read(tiny_training: Any, name: str) -> None:
    augment = TRAIN.augment.model_copy(update={name: SHARED_WITH_THE_READER[name]})
    other = job_of(tiny_training, TRAIN.model_copy(update={"augment": augment}))
    assert other.read_spec != job_of(tiny_training).read_spec


@pytest.mark.parametrize(
    "changes",
    [
        {"microbatch": 3},
        {"checkpoint": CheckpointSettings(every_steps=5)},
        {"checkpoint": CheckpointSettings(every_epochs=2)},
    ],
)
def test_pieces_and_checkpoints_are_in_the_plan(
    tiny_training: Any, changes: dict[str, object]
) -> None:
    other = job_of(tiny_training, **changes)
    assert parts_changed(tiny_training, job_of(tiny_training), other) == {"plan"}


@pytest.mark.parametrize(("global_batch", "full"), [(8, 8), (64, 20)])
def test_a_batch_is_full_that_has_all_there_is(
    tiny_training: Any, global_batch: int, full: int
) -> None:
    """Else a training of one small batch an epoch would never move its moving averages."""
    job = job_of(tiny_training, TRAIN.model_copy(update={"global_batch": global_batch}))
    assert plan_of(job, job.order(tiny_training.manifest)).full_batch_rows == full


def test_one_rank_keeps_the_average(tiny_training: Any) -> None:
    job = job_of(tiny_training, TRAIN.model_copy(update={"average_decay": 0.9}))
    assert learner_of(tiny_training, job, World(0, 2)).average is not None
    assert learner_of(tiny_training, job, World(1, 2)).average is None


def test_weights_lie_channels_last(tiny_training: Any) -> None:
    """As the inputs do: torch would copy one or the other in every step."""
    weight = learner_of(tiny_training, job_of(tiny_training)).model.get_parameter("conv2.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


EVERYTHING = TrainSettings(
    epochs=2,
    seed=3,
    global_batch=8,
    order="fixed",
    precision="bf16",
    label_smoothing=0.1,
    augment=AugmentSettings(
        crop_px=40, resized_crop=ResizedCrop(min_area=0.3), normalise="channels", scale=0.5
    ),
    mixing=MixingSettings(mixup=0.4, cutmix=1.0),
    progressive=ProgressiveSize(first_px=24, until=1.0, multiple_px=8),
    optimizer=OptimizerSettings(nesterov=True, decay_all=True, clip_norm=0.5),
    schedule=PlateauSchedule(weight_rate=0.01, bias_rate=0.02),
    average_decay=0.9,
    log_every_steps=1,
)


def train(learner: Learner, job: TrainJob, data: Any, first_step: int, stop_step: int) -> None:
    train_loop(
        learner,
        read_batches(job.read_spec, first_step=first_step, stop_step=stop_step),
        plan_of(job, job.order(data.manifest)),
        World(),
        trained=lambda batch: None,
        report=lambda progress: None,
        save=lambda step: None,
    )


def save(learner: Learner, job: TrainJob, step: int) -> None:
    run = open_store(job.run_uri)
    attempt = claim_attempt(run, start_step=0, world_size=1)
    state = TrainState(
        step=step,
        epoch=step // 3,
        attempt=attempt.number,
        run_key=job.run_key,
        dataset_fingerprint=job.dataset_fingerprint,
        seed=job.train.seed,
        global_batch=job.train.global_batch,
        num_classes=job.num_classes,
        network=job.network,
        augment=job.train.augment,
        losses=None if learner.losses is None else learner.losses.gather(),
    )
    average = None if learner.average is None else learner.average.state()
    velocity = optimizer_state(learner.optimizer)
    write_checkpoint(run, state, learner.model.state_dict(), velocity, average)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of its settings
def test_a_worker_with_every_option_goes_on_to_what_one_process_learns(
    ray_local: Any, tiny_training: Any, tmp_path: Path, mlflow_place: Any, one_thread: None
) -> None:
    """It resumes in the second epoch, from what the loop by itself had come to."""
    from alexnet.train.launch import finish_metrics, run_training
    from alexnet.train.placement import place_workers
    from infra.ray_runtime import cluster_resources
    from infra.tracking.actor import start_metrics_actor

    job = job_of(
        tiny_training,
        EVERYTHING,
        run_uri=str(tmp_path / "run"),
        network=NetworkSettings(name="alexnet-bn", variant="small-images", width=0.05),
        microbatch=3,
    )
    learner = learner_of(tiny_training, job)
    train(learner, job, tiny_training, 0, 4)
    save(learner, job, 4)
    train(learner, job, tiny_training, 4, 6)

    sink = start_metrics_actor(job.run_uri, mlflow_place, "no-run", experiment="alexnet")
    run_training(
        job,
        replace(place_workers(cluster_resources(), 1), threads_per_worker=1),
        sink,
        max_failures=0,
        num_images=40,
        progress=no_progress,
        say=lambda text: None,
    )
    finish_metrics(sink, 0.1)
    run = open_store(job.run_uri)
    found = find_sound_checkpoint(run, read_attempts(run))
    assert found is not None
    store = run.child(found.folder)
    receipt, state = open_checkpoint(store)
    assert (receipt.step, receipt.attempt) == (6, 2)
    assert_equal(read_tensors(store, receipt.model), learner.model.state_dict())
    assert_equal(read_tensors(store, receipt.optimizer), optimizer_state(learner.optimizer))
    assert receipt.average is not None
    assert learner.average is not None
    assert_equal(read_tensors(store, receipt.average), learner.average.state())
    assert state.losses is not None
    assert learner.losses is not None
    assert state.losses.finished == pytest.approx(learner.losses.finished, rel=1e-12)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_job_that_says_so_has_its_network_compiled(
    tiny_training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(wiring, "compile_network", lambda *args: compiled.append(args))
    learner_of(tiny_training, job_of(tiny_training))
    assert compiled == []
    train = TRAIN.model_copy(update={"precision": "bf16"})
    learner = learner_of(tiny_training, job_of(tiny_training, train, compile=True))
    assert compiled == [(learner.model, train.augment.crop_px, "bf16")]
