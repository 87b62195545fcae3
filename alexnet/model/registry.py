"""The networks by name, as recipes and registered models spell them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Final

from alexnet.model import cifar_networks, release_networks
from alexnet.model.alexnet_2012 import AlexNet2012
from alexnet.model.alexnet_bn import AlexNetBn
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.description import Description
from alexnet.model.errors import ModelError
from alexnet.model.layered_network import LayeredNetwork

Network = AlexNet2012 | AlexNetBn | AlexNetTorchvision | LayeredNetwork
"""Any network listed here: `forward(images, sample_keys=None)`, `num_classes`, `image_size`."""

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    "alexnet-2012-conv5-norm": release_networks.CONV5_NORM,
    "alexnet-2012-no-block2-norm": release_networks.NO_BLOCK2_NORM,
    "alexnet-2012-no-communication": release_networks.NO_COMMUNICATION,
    "alexnet-2012-no-norm": release_networks.NO_NORM,
    "alexnet-2012-norm-before-relu": release_networks.NORM_BEFORE_RELU,
    "alexnet-2012-one-column": release_networks.ONE_COLUMN,
    "alexnet-2012-plain-pooling": release_networks.PLAIN_POOLING,
    "alexnet-2012-six-convs": release_networks.SIX_CONVS,
    "alexnet-bn-last": release_networks.BATCH_NORM_LAST,
    "alexnet-one-tower": release_networks.ONE_TOWER,
    "alexnet-paper": release_networks.PAPER,
    "cifar-11pct": cifar_networks.CIFAR_11PCT,
    "cifar-13pct": cifar_networks.CIFAR_13PCT,
    "cifar-18pct": cifar_networks.CIFAR_18PCT,
    "cifar-80sec": cifar_networks.CIFAR_80SEC,
}
"""The networks that are tables of layers."""

_NETWORKS: Final[Mapping[str, Callable[..., Network]]] = {
    "alexnet-2012": AlexNet2012,
    "alexnet-bn": AlexNetBn,
    "alexnet-torchvision": AlexNetTorchvision,
    **{name: partial(LayeredNetwork, description) for name, description in DESCRIPTIONS.items()},
}


def list_models() -> tuple[str, ...]:
    """Return the names `create_model` knows, sorted."""
    return tuple(sorted(_NETWORKS))


def create_model(name: str, num_classes: int = 1000, **options: object) -> Network:
    """Build a network with fresh weights, drawn from torch's global generator: seed it first.

    Args:
        name: one of `list_models()`.
        num_classes: logits per image.
        options: the network's own keywords, such as `image_size`, `width` and `dropout`.

    Raises:
        ModelError: an unknown name or option (with the nearest known), or a value out of range.
    """
    if name not in _NETWORKS:
        raise ModelError(f"there is no network {name!r}", _suggest(name, _NETWORKS))
    build = _NETWORKS[name]
    known = inspect.signature(build).parameters
    for option in options:
        if option not in known:
            raise ModelError(f"{name} has no option {option!r}", _suggest(option, known))
    return build(num_classes=num_classes, **options)


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return f"did you mean {nearest!r}? Known: {', '.join(names)}"
