import math

import pytest
import torch

from alexnet.train.checkpoint import LossesSoFar
from alexnet.train.divergence import TrainingDiverged
from alexnet.train.epoch_losses import EpochLosses
from alexnet.train.world import World

CPU = torch.device("cpu")
STEPS = [(12.0, 4), (6.0, 4), (1.0, 2)]
"""Of an epoch: the sum over a batch, and its rows."""


def losses(so_far: LossesSoFar | None = None) -> EpochLosses:
    record = EpochLosses(World(), CPU)
    if so_far is not None:
        record.load(so_far)
    return record


def add(record: EpochLosses, steps: list[tuple[float, int]]) -> None:
    for loss_sum, rows in steps:
        record.add(torch.tensor(loss_sum), rows)


def test_an_epochs_loss_is_the_mean_over_its_images() -> None:
    record = losses()
    for factor in (1, 3):
        add(record, [(factor * loss_sum, rows) for loss_sum, rows in STEPS])
        record.finish_epoch()
    assert record.finished == (pytest.approx(1.9), pytest.approx(5.7))


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_saved_in_mid_epoch_it_goes_on_as_if_nothing_had_happened(done: int) -> None:
    first = losses(LossesSoFar(finished=(2.5,)))
    add(first, STEPS[:done])
    saved = LossesSoFar.model_validate_json(first.gather().model_dump_json())
    assert saved.finished == (2.5,)
    assert saved.partial_rows == sum(rows for _, rows in STEPS[:done])
    for record in (first, losses(saved)):
        add(record, STEPS[done:])
        record.finish_epoch()
        assert record.finished == (2.5, pytest.approx(1.9))


class TwoRanks(World):
    """The other rank has what this one has."""

    def total(self, value: torch.Tensor) -> float:
        return 2 * float(value)


def test_all_ranks_sums_count_and_once() -> None:
    record = EpochLosses(TwoRanks(0, 2), CPU)
    add(record, STEPS)
    assert record.gather().partial_sum == record.gather().partial_sum == 38.0
    record.finish_epoch()
    assert record.finished == (pytest.approx(3.8),)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told_with_its_epoch(wrong: float) -> None:
    for end in (EpochLosses.gather, EpochLosses.finish_epoch):
        record = losses(LossesSoFar(finished=(2.5,)))
        add(record, [*STEPS[:2], (wrong, 2)])
        with pytest.raises(TrainingDiverged, match=f"the loss is {wrong} in epoch 2"):
            end(record)
