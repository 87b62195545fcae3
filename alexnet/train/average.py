"""An exponential average of the weights beside the weights themselves."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

_RAMP: Final = 10


class WeightAverage:
    """The average of a network's weights and moving statistics over its updates.

        average <- d * average + (1 - d) * weights        d = min(decay, (1 + t) / (10 + t))

    after update t, counted from 1: so the first updates, which say little, are soon forgotten.

    Args:
        network: on its final device and not wrapped; the average starts as what it holds now.
        decay: d of a long run, below 1; 1 / (1 - decay) updates are looked back on.

    Source:
        Polyak and Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        weights = network.state_dict()  # the live tensors
        self._average = {name: tensor.clone() for name, tensor in weights.items()}
        floats = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        self._floats = [self._average[name] for name in floats], [weights[name] for name in floats]
        self._counters = [(self._average[name], weights[name]) for name in weights.keys() - floats]

    def update(self, step: int) -> None:
        """Take in the weights after `step` updates, from 1."""
        decay = min(self._decay, (1 + step) / (_RAMP + step))
        torch._foreach_lerp_(*self._floats, 1 - decay)
        for average, counter in self._counters:
            average.copy_(counter)

    def state(self) -> dict[str, Tensor]:
        """Return the average by name, as a network's state dict: the live tensors."""
        return self._average

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Go on from a saved average of the same network, on any device."""
        for name, tensor in self._average.items():
            tensor.copy_(average[name])
