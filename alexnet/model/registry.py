"""The networks by name, as recipes and registered models spell them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from alexnet.model.alexnet_2012 import AlexNet2012
from alexnet.model.alexnet_bn import AlexNetBn
from alexnet.model.alexnet_torchvision import AlexNetTorchvision
from alexnet.model.errors import ModelError

Network = AlexNet2012 | AlexNetBn | AlexNetTorchvision
"""Any network listed here: `forward(images, sample_keys=None)`, `num_classes`, `image_size`."""

_NETWORKS: Final[Mapping[str, Callable[..., Network]]] = {
    "alexnet-2012": AlexNet2012,
    "alexnet-bn": AlexNetBn,
    "alexnet-torchvision": AlexNetTorchvision,
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
