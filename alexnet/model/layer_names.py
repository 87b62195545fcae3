"""The layers of every network by name, and where in it each one's activations can be seen.

One vocabulary for all: `conv1`, `conv1_relu`, `conv1_pool`, …, `fc7`, `fc7_relu`, `fc7_dropout`,
`fc8`, in the order of execution. A layer without weights is named after the last that has some, and
its own kind, as in `alexnet.model.description`: a table's layers are its modules. The three
networks that are written out apply ReLUs as functions and use a pool or a norm more than once;
there a name stands for what one call of a module gives or takes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from typing import Final, Literal

from torch import Tensor, nn

from alexnet.model.alexnet_2012 import AlexNet2012
from alexnet.model.alexnet_bn import AlexNetBn
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.errors import ModelError
from alexnet.model.layered_network import LayeredNetwork


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a layer's activations pass by."""

    module: str
    """Its name in the network."""
    side: Literal["output", "input"] = "output"
    call: int = 0
    """Which call of the module in one forward pass, from 0."""


def layer_taps(network: nn.Module) -> Mapping[str, Tap]:
    """Return a tap for each layer, in the order of execution; the last are the logits.

    Raises:
        ModelError: a network that `create_model` does not make.
    """
    match network:
        case AlexNet2012():
            return _ALEXNET_2012
        case AlexNetBn():
            without = _HIDDEN_NORMS if isinstance(network.norm6, nn.Identity) else ()
            return {name: tap for name, tap in _ALEXNET_BN.items() if name not in without}
        case AlexNetTorchvision():
            return _ALEXNET_TORCHVISION
        case LayeredNetwork():
            return {name: Tap(name) for name, _ in network.named_children()}
    raise ModelError(
        f"the layers of a {type(network).__name__} have no names", "use a network of `create_model`"
    )


def last_hidden_layer(network: nn.Module) -> str:
    """Name what the last weight layer is computed from, before dropout: `fc7_relu` of AlexNet.

    The 2012 release took its features there: after its test-mode dropout they would be half as
    large. Source: the layers `fc2048ba_neuron` and `fc2048bb_neuron`.
    """
    hidden = list(layer_taps(network))[:-1]
    return next(name for name in reversed(hidden) if not name.endswith("_dropout"))


def find_tap(network: nn.Module, layer: str) -> Tap:
    """Return a layer's tap.

    Raises:
        ModelError: there is no such layer; lists those there are.
    """
    taps = layer_taps(network)
    if layer not in taps:
        nearest = get_close_matches(layer, taps, n=1, cutoff=0.0)[0]
        raise ModelError(
            f"there is no layer {layer!r}", f"did you mean {nearest!r}? Known: {', '.join(taps)}"
        )
    return taps[layer]


@contextmanager
def watched(network: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """Give the block a list that gets a layer's activations, (batch, …), in its one forward pass.

    A copy, as ReLUs may work in place. What a written-out network flattens at once comes flat.

    Raises:
        ModelError: there is no such layer.
    """
    tap = find_tap(network, layer)
    module = network.get_submodule(tap.module)
    seen: list[Tensor] = []
    calls = count()

    def see(activations: Tensor) -> None:
        if next(calls) == tap.call:
            seen.append(activations.clone())

    if tap.side == "input":
        handle = module.register_forward_pre_hook(lambda _, inputs: see(inputs[0]))
    else:
        handle = module.register_forward_hook(lambda _, __, output: see(output))
    try:
        yield seen
    finally:
        handle.remove()


_ALEXNET_2012: Final[Mapping[str, Tap]] = {
    "conv1": Tap("conv1"),
    "conv1_across": Tap("across_maps"),
    "conv1_pool": Tap("pool"),
    "conv1_relu": Tap("conv2", "input"),
    "conv2": Tap("conv2"),
    "conv2_relu": Tap("across_maps", "input", call=1),
    "conv2_across": Tap("across_maps", call=1),
    "conv2_within": Tap("within_map"),
    "conv2_pool": Tap("pool", call=1),
    "conv3": Tap("conv3"),
    "conv3_relu": Tap("conv4", "input"),
    "conv4": Tap("conv4"),
    "conv4_relu": Tap("conv5", "input"),
    "conv5": Tap("conv5"),
    "conv5_pool": Tap("pool", call=2),
    "conv5_relu": Tap("fc6", "input"),
    "fc6": Tap("fc6"),
    "fc6_relu": Tap("dropout6", "input"),
    "fc6_dropout": Tap("dropout6"),
    "fc7": Tap("fc7"),
    "fc7_relu": Tap("dropout7", "input"),
    "fc7_dropout": Tap("dropout7"),
    "fc8": Tap("fc8"),
}

_HIDDEN_NORMS: Final = ("fc6_norm", "fc7_norm")
_ALEXNET_BN: Final[Mapping[str, Tap]] = {
    "conv1": Tap("conv1"),
    "conv1_norm": Tap("norm1"),
    "conv1_relu": Tap("pool", "input"),
    "conv1_pool": Tap("pool"),
    "conv2": Tap("conv2"),
    "conv2_norm": Tap("norm2"),
    "conv2_relu": Tap("pool", "input", call=1),
    "conv2_pool": Tap("pool", call=1),
    "conv3": Tap("conv3"),
    "conv3_norm": Tap("norm3"),
    "conv3_relu": Tap("conv4", "input"),
    "conv4": Tap("conv4"),
    "conv4_norm": Tap("norm4"),
    "conv4_relu": Tap("conv5", "input"),
    "conv5": Tap("conv5"),
    "conv5_norm": Tap("norm5"),
    "conv5_relu": Tap("pool", "input", call=2),
    "conv5_pool": Tap("pool", call=2),
    "fc6": Tap("fc6"),
    "fc6_norm": Tap("norm6"),
    "fc6_relu": Tap("dropout6", "input"),
    "fc6_dropout": Tap("dropout6"),
    "fc7": Tap("fc7"),
    "fc7_norm": Tap("norm7"),
    "fc7_relu": Tap("dropout7", "input"),
    "fc7_dropout": Tap("dropout7"),
    "fc8": Tap("fc8"),
}

_ALEXNET_TORCHVISION: Final[Mapping[str, Tap]] = {
    "conv1": Tap("features.0"),
    "conv1_relu": Tap("features.1"),
    "conv1_pool": Tap("features.2"),
    "conv2": Tap("features.3"),
    "conv2_relu": Tap("features.4"),
    "conv2_pool": Tap("features.5"),
    "conv3": Tap("features.6"),
    "conv3_relu": Tap("features.7"),
    "conv4": Tap("features.8"),
    "conv4_relu": Tap("features.9"),
    "conv5": Tap("features.10"),
    "conv5_relu": Tap("features.11"),
    "conv5_pool": Tap("features.12"),
    "conv5_avgpool": Tap("avgpool"),
    "conv5_dropout": Tap("classifier.0"),
    "fc6": Tap("classifier.1"),
    "fc6_relu": Tap("classifier.2"),
    "fc6_dropout": Tap("classifier.3"),
    "fc7": Tap("classifier.4"),
    "fc7_relu": Tap("classifier.5"),
    "fc8": Tap("classifier.6"),
}
