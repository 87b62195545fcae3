import pytest

from alexnet.settings import (
    AugmentSettings,
    ColorJitter,
    MixingSettings,
    NetworkSettings,
    OptimizerSettings,
    RandomErasing,
)
from alexnet.train.job import TrainJob, run_key
from alexnet.train.schedule_settings import CosineSchedule
from alexnet.train.settings import CheckpointSettings, TrainSettings

FINGERPRINT = "1" * 64
NETWORK = NetworkSettings()
SCHEDULE = CosineSchedule(weight_rate=0.01, bias_rate=0.02)
TRAIN = TrainSettings(schedule=SCHEDULE)
KEY = run_key(FINGERPRINT, NETWORK, TRAIN, tag=None)


def key_with(**changes: object) -> str:
    return run_key(FINGERPRINT, NETWORK, TRAIN.model_copy(update=changes), tag=None)


def test_the_key_of_a_training_stays_as_it_is() -> None:
    """If it changes, finished runs are trained again and half-done ones start from nothing.

    When the mathematics changed and this did not: raise VERSION, so that no old result is kept.
    """
    assert KEY == "af2582319558c8f708dcfc5517b3e7245c73a92ba63ecd36f886d77bf14b0ff2"


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_log": "/somewhere"},
        {"log_every_steps": 1},
        {"sample_log": "s3://bucket/log", "log_every_steps": 500},
    ],
)
def test_logging_is_in_no_key(changes: dict[str, object]) -> None:
    assert key_with(**changes) == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"epochs": 91},
        {"global_batch": 256},
        {"order": "fixed"},
        {"precision": "bf16"},
        {"precision": "tf32"},
        {"augment": AugmentSettings(flip=False)},
        {"augment": AugmentSettings(crop_px=200)},
        {"augment": AugmentSettings(jitter=ColorJitter(contrast=0.4))},
        {"augment": AugmentSettings(erase=RandomErasing())},
        {"optimizer": OptimizerSettings(momentum=0.8)},
        {"optimizer": OptimizerSettings(kind="sgd")},
        {"optimizer": OptimizerSettings(kind="adamw", weight_decay=0.0005)},
        {"schedule": CosineSchedule(weight_rate=0.01, bias_rate=0.01)},
    ],
)
def test_each_part_of_the_mathematics_is_in_the_key(changes: dict[str, object]) -> None:
    assert key_with(**changes) != KEY


def test_so_are_the_dataset_the_network_and_the_tag() -> None:
    keys = {
        KEY,
        run_key("2" * 64, NETWORK, TRAIN, tag=None),
        run_key(FINGERPRINT, NetworkSettings(width=0.5), TRAIN, tag=None),
        run_key(FINGERPRINT, NetworkSettings(dropout=0.4), TRAIN, tag=None),
        run_key(FINGERPRINT, NETWORK, TRAIN, tag="again"),
        run_key(FINGERPRINT, NETWORK, TRAIN, tag="and again"),
    }
    assert len(keys) == 6


def test_every_setting_of_training_is_known_to_the_key_or_to_logging() -> None:
    """A new field changes the key unless job.run_key leaves it out on purpose."""
    logging = {"sample_log", "log_every_steps"}
    known = {"epochs", "seed", "global_batch", "order", "precision", "label_smoothing"}
    known |= {
        "augment",
        "optimizer",
        "schedule",
        "mixing",
        "progressive",
        "average_decay",
    }
    assert set(TrainSettings.model_fields) == logging | known


def test_a_job_survives_the_way_to_a_worker_and_describes_what_is_read() -> None:
    job = TrainJob(
        run_key=KEY,
        run_uri="/run",
        dataset_uri="/dataset",
        dataset_fingerprint=FINGERPRINT,
        num_classes=7,
        network=NETWORK,
        train=TRAIN.model_copy(update={"augment": AugmentSettings(crop_sharing=32, crop_px=64)}),
        checkpoint=CheckpointSettings(),
    )
    assert TrainJob.model_validate_json(job.model_dump_json()) == job
    spec = job.read_spec
    assert (spec.dataset_uri, spec.seed) == ("/dataset", 0)
    assert (spec.global_batch, spec.order_kind) == (128, "reshuffled")
    assert (spec.crop_px, spec.crop_sharing) == (64, 32)


@pytest.mark.parametrize(
    ("mixing", "order", "kind"),
    [
        (None, "reshuffled", "reshuffled"),
        (None, "fixed", "fixed"),
        (MixingSettings(mixup=0.2), "reshuffled", "paired"),
    ],
)
def test_only_blends_want_neighbours_of_different_groups(
    mixing: MixingSettings | None, order: str, kind: str
) -> None:
    job = TrainJob(
        run_key=KEY,
        run_uri="/run",
        dataset_uri="/dataset",
        dataset_fingerprint=FINGERPRINT,
        num_classes=7,
        network=NETWORK,
        train=TRAIN.model_copy(update={"mixing": mixing, "order": order}),
        checkpoint=CheckpointSettings(),
    )
    assert job.read_spec.order_kind == kind
