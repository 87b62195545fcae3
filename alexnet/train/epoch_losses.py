"""The mean training loss of each epoch, the same on every rank and after a restart."""

import torch
from torch import Tensor

from alexnet.train.checkpoint import LossesSoFar
from alexnet.train.divergence import check_finite
from alexnet.train.world import World


class EpochLosses:
    """Adds up the losses of an epoch's steps, on the device: the ranks meet at its end only.

    Args:
        world: the ranks; all must make the same calls.
        device: of the losses.
    """

    def __init__(self, world: World, device: torch.device) -> None:
        self._world = world
        self._so_far = LossesSoFar()
        self._rows = 0
        self._own = torch.zeros((), dtype=torch.float64, device=device)

    @property
    def finished(self) -> tuple[float, ...]:
        """Mean loss of each finished epoch."""
        return self._so_far.finished

    def load(self, so_far: LossesSoFar) -> None:
        """Go on from what a checkpoint has, on every rank; before the first step."""
        self._so_far = so_far

    def add(self, loss_sum: Tensor, batch_rows: int) -> None:
        """Take in a step: the sum over the own rows, and the rows of all ranks."""
        self._own += loss_sum
        self._rows += batch_rows

    def finish_epoch(self) -> None:
        """Note the mean of the epoch that ends here.

        Raises:
            TrainingDiverged: a loss of this epoch was no finite number.
        """
        now = self.gather()
        mean = now.partial_sum / now.partial_rows
        self._so_far = LossesSoFar(finished=(*now.finished, mean))

    def gather(self) -> LossesSoFar:
        """Add up what all ranks have, and return it.

        Raises:
            TrainingDiverged: a loss of this epoch was no finite number.
        """
        finished = self._so_far.finished
        total = check_finite(self._world.total(self._own), f"in epoch {len(finished) + 1}")
        self._so_far = LossesSoFar(
            finished=finished,
            partial_sum=self._so_far.partial_sum + total,
            partial_rows=self._so_far.partial_rows + self._rows,
        )
        self._own.zero_()
        self._rows = 0
        return self._so_far
