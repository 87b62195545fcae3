"""What the network sees of each image does not depend on how many workers there are: to the bit."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet.data.augment import Augment
from alexnet.data.in_process import read_batches
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.reader import ReadSpec
from alexnet.settings import (
    AugmentSettings,
    ColorJitter,
    MixingSettings,
    OptimizerSettings,
    ProgressiveSize,
    RandomErasing,
    ResizedCrop,
)
from alexnet.train.loop import Learner, train_loop
from alexnet.train.optimizer import build_optimizer
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule_settings import Phase, PhasesSchedule
from alexnet.train.step import StepInputs
from alexnet.train.world import World
from preprocessing.dataset.statistics import read_statistics

pytestmark = pytest.mark.usefixtures("one_thread")

CROP_PX, BATCH, SEED, STEPS = 40, 8, 7, 9
JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
ERASE = RandomErasing(probability=0.7)
ALL_AT_ONCE = [
    pytest.param(
        AugmentSettings(
            crop_px=CROP_PX,
            resized_crop=ResizedCrop(),
            normalise="channels",
            jitter=JITTER,
            erase=ERASE,
        ),
        id="resized crops",
    ),
    pytest.param(
        AugmentSettings(crop_px=CROP_PX, crop_sharing=3, jitter=JITTER, erase=ERASE, scale=0.5),
        id="shared crops",
    ),
]
SCHEDULE = PhasesSchedule(
    phases=(
        Phase(from_epoch=1, weight_rate=0.01, bias_rate=0.01),
        Phase(from_epoch=3, weight_rate=0.01, bias_rate=0.01, color_noise=0.0),
    )
)


@dataclass
class Seen:
    """What the step was given of one image."""

    inputs: Tensor
    key: int
    label: int
    other: int
    share: float


def seen_by(
    rank: int, world_size: int, dataset: Any, augment: AugmentSettings, patch: pytest.MonkeyPatch
) -> dict[tuple[int, int], Seen]:
    """Train as one of so many ranks, on nothing; by step and sample id."""
    plan = LoopPlan(
        seed=SEED,
        total_steps=STEPS + 1,  # the last one asks all ranks for their losses
        steps_per_epoch=3,
        full_batch_rows=BATCH,
        schedule=SCHEDULE,
        augment=augment,
        log_every_steps=100,
        save_every_steps=None,
        save_every_epochs=None,
        mixing=MixingSettings(mixup=0.4, cutmix=1.0, probability=0.9),
        progressive=ProgressiveSize(first_px=24, until=0.6, multiple_px=8),
    )
    spec = ReadSpec(
        dataset_uri=dataset.store.uri,
        seed=SEED,
        global_batch=BATCH,
        order_kind="paired",
        crop_px=CROP_PX,
        crop_sharing=augment.crop_sharing,
        resized_crop=augment.resized_crop,
    )
    given: list[list[Seen]] = []

    def note(_: nn.Module, __: torch.optim.Optimizer, inputs: StepInputs, **___: Any) -> Tensor:
        assert inputs.blended is not None
        labels = (inputs.labels, inputs.blended.others, inputs.blended.shares)
        rows = zip(inputs.images, inputs.sample_keys, *labels, strict=True)
        given.append([Seen(row.clone(), *(int(x) for x in of), float(s)) for row, *of, s in rows])
        return torch.zeros(())

    statistics = InputStatistics.of(read_statistics(dataset.store, dataset.manifest.statistics))
    network = nn.Sequential()
    network.add_module("fc8", nn.Linear(1, 1))
    found: dict[tuple[int, int], Seen] = {}
    patch.setattr("alexnet.train.loop.train_step", note)
    train_loop(
        Learner(
            network,
            build_optimizer(network, OptimizerSettings()),
            Augment(augment, statistics),
            torch.device("cpu"),
        ),
        read_batches(spec, first_step=0, stop_step=STEPS, rank=rank, world_size=world_size),
        plan,
        World(rank, world_size),
        trained=lambda batch: found.update(
            zip(((batch.step, int(i)) for i in batch.rows.sample_ids), given[-1], strict=True)
        ),
        report=lambda progress: None,
        save=lambda step: None,
    )
    return found


@pytest.mark.parametrize("augment", ALL_AT_ONCE)
def test_all_augmentations_together_are_the_same_on_any_number_of_workers(
    tiny_training: Any, augment: AugmentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = seen_by(0, 1, tiny_training, augment, monkeypatch)
    assert len(alone) == 3 * 20
    assert {image.inputs.shape[-1] for image in alone.values()} == {24, 32, CROP_PX}
    assert any(0 < image.share < 1 for image in alone.values())
    for world_size in (2, 3):
        found: dict[tuple[int, int], Seen] = {}
        for rank in range(world_size):
            found |= seen_by(rank, world_size, tiny_training, augment, monkeypatch)
        assert found.keys() == alone.keys()
        for place, image in found.items():
            expected = alone[place]
            assert torch.equal(image.inputs, expected.inputs), place
            assert (image.key, image.label, image.other, image.share) == (
                expected.key,
                expected.label,
                expected.other,
                expected.share,
            )
