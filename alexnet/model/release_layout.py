"""Weights of `alexnet-2012` from and to the matrices of the 2012 program.

There, a layer belongs to one tower (`conv2a`, `conv2b`; only `fc1000` to both), and holds one
matrix for each tower that it sees and one vector of biases. A matrix has a row for each input, in
the order (map, y, x), and a column for each output. `fc2048bb` sees tower b first.

The other networks with these eight layers and towers, of any width, convert alike.

Source: `layers-145.cfg`, and `ConvLayerParser` and `FCLayerParser` in the release's `layer.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from alexnet.model.errors import ModelError

Tower = Literal[0, 1]


class ReleaseLayer(NamedTuple):
    """One layer's weights; NumPy arrays, which this package does not import to name them."""

    weights: tuple[Any, ...]
    """(inputs, outputs), float32: one matrix for each input, in the release's order."""
    biases: Any
    """(outputs,), float32; taken in any shape that holds as many values."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a layer of the release lies in one of ours."""

    ours: str
    outputs: Tower | None
    """Whose outputs it makes; none: both."""
    sees: tuple[Tower, ...] = ()
    """The towers its matrices read, in order; none: a single matrix for all that it sees."""


_LAYERS: Final[Mapping[str, _Source]] = {
    "conv1a": _Source("conv1", 0),
    "conv1b": _Source("conv1", 1),
    "conv2a": _Source("conv2", 0),
    "conv2b": _Source("conv2", 1),
    "conv3a": _Source("conv3", 0, (0, 1)),
    "conv3b": _Source("conv3", 1, (0, 1)),
    "conv4a": _Source("conv4", 0),
    "conv4b": _Source("conv4", 1),
    "conv5a": _Source("conv5", 0),
    "conv5b": _Source("conv5", 1),
    "fc2048a": _Source("fc6", 0, (0, 1)),
    "fc2048b": _Source("fc6", 1, (0, 1)),
    "fc2048ba": _Source("fc7", 0, (0, 1)),
    "fc2048bb": _Source("fc7", 1, (1, 0)),
    "fc1000": _Source("fc8", None, (0, 1)),
}

_CONNECTIONS: Final = (
    ("conv1", "conv2", 2),
    ("conv2", "conv3", 1),
    ("conv3", "conv4", 2),
    ("conv4", "conv5", 2),
)
"""Which layer each sees, and how many towers keep apart."""

_REMEDY: Final = "give the state dict of a network with the layers and towers of alexnet-2012"


def to_release(state: Mapping[str, Tensor]) -> dict[str, ReleaseLayer]:
    """Return the matrices, copies, by the release's names.

    Args:
        state: a state dict of `alexnet-2012`; conv1 to conv5 and fc6 to fc8 are read.

    Raises:
        ModelError: the network has other layers or towers.
    """
    _check_towers(state)
    return {
        name: ReleaseLayer(
            tuple(part.flatten(1).T.cpu().numpy().copy() for part in _parts(state, source)),
            _outputs(state[f"{source.ours}.bias"], source).cpu().numpy().copy(),
        )
        for name, source in _LAYERS.items()
    }


def from_release(
    layers: Mapping[str, ReleaseLayer], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a state dict with the release's weights.

    Args:
        layers: all layers, by the release's names.
        like: a state dict of the network they are for; read for names, shapes and types.

    Raises:
        ModelError: the network has other layers or towers; or a layer is missing, or holds another
            count or shape of matrices or biases.
    """
    _check_towers(like)
    state = {name: value.clone() for name, value in like.items()}
    for name, source in _LAYERS.items():
        if name not in layers:
            raise ModelError(f"there is no layer {name}", f"give {', '.join(_LAYERS)}")
        parts = _parts(state, source)
        if len(layers[name].weights) != len(parts):
            raise ModelError(
                f"{name} has {len(layers[name].weights)} matrices", f"give {len(parts)}"
            )
        for part, matrix in zip(parts, layers[name].weights, strict=True):
            expected = (part[0].numel(), len(part))
            if tuple(matrix.shape) != expected:
                raise ModelError(
                    f"a matrix of {name} has shape {tuple(matrix.shape)}", f"give {expected}"
                )
            part.copy_(torch.tensor(matrix).T.reshape(part.shape))
        bias = _outputs(state[f"{source.ours}.bias"], source)
        values = torch.tensor(layers[name].biases).flatten()
        if len(values) != len(bias):
            raise ModelError(f"{name} has {len(values)} biases", f"give {len(bias)}")
        bias.copy_(values)
    return state


def _check_towers(state: Mapping[str, Tensor]) -> None:
    names = {f"{source.ours}.{kind}" for source in _LAYERS.values() for kind in ("weight", "bias")}
    if differing := sorted(names ^ state.keys()):
        raise ModelError(f"tensors missing or unknown: {', '.join(differing)}", _REMEDY)
    for below, name, towers in _CONNECTIONS:
        inputs = state[f"{name}.weight"].shape[1]
        if inputs * towers != len(state[f"{below}.weight"]):
            raise ModelError(f"{name} sees {inputs} maps of {below}", _REMEDY)


def _parts(state: Mapping[str, Tensor], source: _Source) -> list[Tensor]:
    """Return views of the weights that the layer's matrices stand for, in their order."""
    weight = _outputs(state[f"{source.ours}.weight"], source)
    if not source.sees:
        return [weight]
    by_tower = weight.chunk(2, dim=1)
    return [by_tower[tower] for tower in source.sees]


def _outputs(values: Tensor, source: _Source) -> Tensor:
    return values.detach() if source.outputs is None else values.detach().chunk(2)[source.outputs]
