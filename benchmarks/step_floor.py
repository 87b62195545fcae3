"""What a training step would take on a device by its operations and bytes alone. Pure.

    floor = sum over the passes of max(operations / matrix rate, bytes / bandwidth)
            + bytes of the update / bandwidth

A weight layer has three passes over a batch of n: forward, the gradient of its weights, that of its
inputs; the first layer lacks the last one, for its inputs are the images. Each has
2 * n * multiply-accumulates operations, and reads or writes inputs, outputs and weights once:
n * (inputs + outputs) numbers of 4 bytes (2 in bf16) and the weights in float32. The update,
momentum SGD, reads weights, gradients and velocities and writes weights and velocities: 20 bytes
for each parameter.

What stands between weight layers (ReLU, pool, norm, dropout) counts nothing: it could be done where
they read and write. The share that is missing shows what it costs. Convolutions in fp32 can need
fewer multiplications than counted (Winograd's), a cache can hold what is counted as moved, and the
rates are those of one product and one copy: a reckoned floor, which a step may come below.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from alexnet.model.own_layers import LocallyConnected, TowerLinear
from alexnet.settings import Precision
from benchmarks.device_rates import DeviceRates

FLOAT32_BYTES: Final = 4
UPDATE_BYTES: Final = 5 * FLOAT32_BYTES
"""A parameter."""


@dataclass(frozen=True, slots=True)
class WeightLayer:
    """What a layer multiplies, reads and writes; a forward pass of one image."""

    macs: int
    """Multiply-accumulates."""
    inputs: int
    outputs: int
    weights: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network multiplies, reads and writes."""

    layers: tuple[WeightLayer, ...]
    """In the order of execution."""
    parameters: int
    """All of them, those of norms and biases too."""


def network_cost(network: nn.Module, image_px: int) -> Cost:
    """Count by a forward pass; nothing is computed.

    Args:
        network: on the meta device.
        image_px: side of its square images.
    """
    layers: list[WeightLayer] = []

    def record(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        weight = layer.get_parameter("weight")
        uses = math.prod(out.shape[2:]) if isinstance(layer, nn.Conv2d) else 1
        inputs, outputs = given[0][0].numel(), out[0].numel()
        layers.append(WeightLayer(weight.numel() * uses, inputs, outputs, weight.numel()))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | LocallyConnected | TowerLinear):
            layer.register_forward_hook(record)
    with torch.no_grad():
        network.eval()(torch.empty(1, 3, image_px, image_px, device="meta"))
    return Cost(tuple(layers), sum(parameter.numel() for parameter in network.parameters()))


def step_flop(cost: Cost, batch: int) -> int:
    """Return the operations of a step: multiplications and additions of the weight layers."""
    return sum(passes * 2 * batch * layer.macs for passes, layer in _with_passes(cost))


def step_floor_s(cost: Cost, batch: int, precision: Precision, rates: DeviceRates) -> float:
    """Return the seconds of a step on `batch` images by the formula above."""
    number_bytes = 2 if precision == "bf16" else FLOAT32_BYTES
    floor_s = UPDATE_BYTES * cost.parameters / rates.bytes_per_s
    for passes, layer in _with_passes(cost):
        moved = batch * (layer.inputs + layer.outputs) * number_bytes
        moved += layer.weights * FLOAT32_BYTES
        multiplying_s = 2 * batch * layer.macs / rates.flop_per_s[precision]
        floor_s += passes * max(multiplying_s, moved / rates.bytes_per_s)
    return floor_s


def _with_passes(cost: Cost) -> list[tuple[int, WeightLayer]]:
    return [(3 if number else 2, layer) for number, layer in enumerate(cost.layers)]
