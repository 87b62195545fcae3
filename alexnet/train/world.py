"""The ranks of a training and what they do together; torch.distributed behind three verbs."""

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True, slots=True)
class World:
    """A process, by its rank among `size`; with size 1 nothing is communicated."""

    rank: int = 0
    size: int = 1

    def total(self, value: Tensor) -> float:
        """Sum a 0-dim tensor over all ranks; every rank must call it, and waits for the others."""
        if self.size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return float(value)

    def greatest(self, value: Tensor) -> float:
        """Return the greatest of all ranks' 0-dim tensors; every rank must call it, and waits."""
        if self.size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return float(value)

    def wait_for_all(self) -> None:
        """Return when every rank has called it."""
        if self.size > 1:
            torch.distributed.barrier()
