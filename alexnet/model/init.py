"""How the 2012 network starts: normal weights, and biases of one where the release has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import nn

from alexnet.model.errors import ModelError

InitRule = Literal["release", "fan-in", "fan-in-zero-bias"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStart:
    """What one layer starts from."""

    weight_std: float
    bias: float
    fan_in: int
    """Inputs of one unit in the full network on 224 x 224 pixels."""


RELEASE: Final[Mapping[str, LayerStart]] = {
    "conv1": LayerStart(weight_std=0.01, bias=0, fan_in=3 * 11 * 11),
    "conv2": LayerStart(weight_std=0.01, bias=1, fan_in=48 * 5 * 5),
    # 0.03 here, where the paper says 0.01 for all: with it the biases of one are workable.
    "conv3": LayerStart(weight_std=0.03, bias=0, fan_in=256 * 3 * 3),
    "conv4": LayerStart(weight_std=0.03, bias=1, fan_in=192 * 3 * 3),
    "conv5": LayerStart(weight_std=0.03, bias=1, fan_in=192 * 3 * 3),
    "fc6": LayerStart(weight_std=0.01, bias=1, fan_in=256 * 6 * 6),
    "fc7": LayerStart(weight_std=0.01, bias=1, fan_in=4096),
    "fc8": LayerStart(weight_std=0.01, bias=0, fan_in=4096),
}
"""By layer name. Source: `layers-145.cfg` of the 2012 release."""


@torch.no_grad()
def initialise(network: nn.Module, rule: InitRule = "release") -> None:
    """Draw every weight of `network` afresh and set every bias, in place.

    Draws from torch's global generator, layer by layer in the order of `RELEASE`: seed it first.

    Args:
        network: has one layer, with weight and bias, for each name in `RELEASE`.
        rule: "release" takes the table as it is. "fan-in" multiplies each weight std by
            sqrt(full fan-in / own fan-in). A unit's response has the variance of its weights
            times its number of inputs, so under "release" a narrow network or a small image
            weakens the signal layer after layer until the biases of one drown it; under "fan-in"
            each layer responds as strongly as in the full network. At full size the two are
            the same. "fan-in-zero-bias" draws as "fan-in" does, and every bias is 0.

    Raises:
        ModelError: another rule.
    """
    check_rule(rule)
    for name, start in RELEASE.items():
        layer = network.get_submodule(name)
        weight = layer.get_parameter("weight")
        own_fan_in = weight.shape[1:].numel()
        weight.normal_(std=start.weight_std * std_factor(rule, start.fan_in, own_fan_in))
        layer.get_parameter("bias").fill_(first_bias(rule, start.bias))


def check_rule(rule: str) -> None:
    """Refuse a rule that is none.

    Raises:
        ModelError: names those that are.
    """
    if rule not in get_args(InitRule):
        raise ModelError(f"init is {rule!r}", f"give one of {', '.join(get_args(InitRule))}")


def std_factor(rule: InitRule, full_fan_in: int, own_fan_in: int) -> float:
    """Return what a rule multiplies a layer's weight std by."""
    return 1.0 if rule == "release" else math.sqrt(full_fan_in / own_fan_in)


def first_bias(rule: InitRule, released: float) -> float:
    """Return what a rule has a layer's biases start at."""
    return 0.0 if rule == "fan-in-zero-bias" else released
