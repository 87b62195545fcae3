"""Weights between torchvision's names, which `alexnet-torchvision` has, and `alexnet-one-tower`'s.

Shapes agree, outputs do not: torchvision's has no norms, pads conv1 on both sides, which moves its
filters by two pixels, and takes pixels on another scale.
"""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from alexnet.model.errors import ModelError

_THEIRS: Final[Mapping[str, str]] = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of `alexnet-one-tower` under torchvision's names.

    Raises:
        ModelError: a tensor is missing, or there is another.
    """
    return _renamed(state, _THEIRS)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of torchvision under the names of `alexnet-one-tower`.

    Raises:
        ModelError: a tensor is missing, or there is another.
    """
    return _renamed(state, {theirs: ours for ours, theirs in _THEIRS.items()})


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    wanted = {
        f"{old}.{kind}": f"{new}.{kind}"
        for old, new in names.items()
        for kind in ("weight", "bias")
    }
    if differing := sorted(wanted.keys() ^ state.keys()):
        raise ModelError(
            f"tensors missing or unknown: {', '.join(differing)}", f"give {', '.join(wanted)}"
        )
    return {new: state[old] for old, new in wanted.items()}
