import pytest
import torch

from alexnet.settings import AugmentSettings, NetworkSettings, ProgressiveSize
from alexnet.train.job import TrainJob
from alexnet.train.loop import StepReport
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule_settings import CosineSchedule
from alexnet.train.settings import CheckpointSettings, TrainSettings
from alexnet.train.utilisation import flop_per_image, gpu_name, utilisation
from alexnet.train.world import World

H100 = "NVIDIA H100 80GB HBM3"
SCHEDULE = CosineSchedule(weight_rate=0.01, bias_rate=0.02)


@pytest.mark.parametrize(
    ("name", "side_px", "macs", "of_the_first"),
    [
        ("alexnet-2012", 224, 724_406_816, 105_415_200),  # 55 * 55 * 96 * 3 * 11 * 11
        ("alexnet-bn", 227, 724_406_816, 105_415_200),
        ("alexnet-torchvision", 224, 714_188_480, 70_276_800),
    ],
)
def test_the_operations_of_an_image(name: str, side_px: int, macs: int, of_the_first: int) -> None:
    """Six for each multiply-accumulate that docs/networks.md has; four where images come in."""
    found = flop_per_image(
        NetworkSettings(name=name), num_classes=1000, built_px=side_px, input_px=side_px
    )
    assert found == 6 * macs - 2 * of_the_first


def job_and_plan(progressive: ProgressiveSize | None = None) -> tuple[TrainJob, LoopPlan]:
    network = NetworkSettings(name="alexnet-torchvision")
    augment = AugmentSettings()
    train = TrainSettings(precision="bf16", augment=augment, schedule=SCHEDULE)
    job = TrainJob(
        run_key="0" * 64,
        run_uri="/run",
        dataset_uri="/dataset",
        dataset_fingerprint="1" * 64,
        num_classes=1000,
        network=network,
        train=train,
        checkpoint=CheckpointSettings(),
    )
    plan = LoopPlan(
        seed=0,
        total_steps=40,
        steps_per_epoch=10,
        full_batch_rows=128,
        schedule=SCHEDULE,
        augment=augment,
        log_every_steps=5,
        save_every_steps=None,
        save_every_epochs=None,
        progressive=progressive,
    )
    return job, plan


def report_at(step: int) -> StepReport:
    return StepReport(step, 1.0, 0.01, 0.02, images=20_000, elapsed_s=2.0, waited_frac=0.25)


def test_the_used_part_of_all_gpus() -> None:
    job, plan = job_and_plan()
    flop = 6 * 714_188_480 - 2 * 70_276_800
    found = utilisation(job, plan, report_at(5), World(0, 4), H100)
    assert found == pytest.approx(flop * 10_000 / (4 * 989.4e12), rel=1e-9)


def test_small_inputs_are_less_work() -> None:
    job, plan = job_and_plan(ProgressiveSize(first_px=112, until=0.5))
    first, last_of_first, full = (
        utilisation(job, plan, report_at(step), World(), H100) for step in (5, 10, 25)
    )
    assert first is not None
    assert full is not None
    assert first == last_of_first
    assert 0.2 < first / full < 0.5


def test_without_a_known_peak_there_is_no_figure() -> None:
    job, plan = job_and_plan()
    for gpu in (None, "NVIDIA GeForce RTX 4090"):
        assert utilisation(job, plan, report_at(5), World(), gpu) is None
    assert gpu_name(torch.device("cpu")) is None
