"""`alexnet check-gradients`: a network's gradients against finite differences of its loss."""

import math
from collections.abc import Sequence
from typing import IO, Any, Final

import torch
from torch import nn

from alexnet.model import ModelError, create_model, list_models
from alexnet.model.check_gradients import LIMIT, check_gradients
from alexnet.threads import one_thread
from infra.errors import DataError, RecipeError
from infra.progress import tell
from pipelines.recipe_yaml import load_recipe

SEED: Final = 0
IMAGES: Final = 4
"""A batch norm of two images gives plus and minus one, whatever they are."""


def check_gradients_of(name: str, layers: Sequence[str], stream: IO[str]) -> dict[str, Any]:
    """Check every weight layer, or some; returns what `check-gradients --json` prints.

    Args:
        name: a network's name; else a recipe's, or a YAML file, whose network and crop are meant.
        layers: names of layers; none: all that have weights.
        stream: gets a line a tensor: large networks take a minute.

    Raises:
        RecipeError: there is no such network, recipe or layer.
    """
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(SEED)
        network = _build(name)
        images = torch.randn(IMAGES, 3, network.image_size, network.image_size)
        labels = torch.randint(network.num_classes, (IMAGES,))
        chosen = _chosen(network, layers)
        checks = []
        for check in check_gradients(network, images, labels, chosen):
            checks.append(check)
            tell(stream, f"checked {check.name}, {len(checks)} of {len(chosen)}")
    return {
        "network": name,
        "image_size": network.image_size,
        "num_classes": network.num_classes,
        "limit": LIMIT,
        "sound": all(check.is_sound for check in checks),
        "tensors": [
            {
                "name": check.name,
                "count": check.count,
                "derivative": _finite(check.derivative),
                "relative_error": _finite(check.relative_error),
                "sound": check.is_sound,
            }
            for check in checks
        ],
    }


def error_of(fields: dict[str, Any]) -> DataError | None:
    """Return the error that names the layers whose gradients are wrong, if there are any."""
    wrong = [
        f"{tensor['name']} ({_told(tensor['relative_error'])})"
        for tensor in fields["tensors"]
        if not tensor["sound"]
    ]
    if not wrong:
        return None
    return DataError(
        f"{fields['network']}: gradients of {', '.join(wrong)} are not those of finite differences",
        remedy="mend the backward pass of that layer, or of one behind it: an error there reaches"
        " all layers in front of it",
    )


def _finite(value: float) -> float | None:
    """Return what JSON can hold: NaN and infinity are no numbers there."""
    return value if math.isfinite(value) else None


def _told(relative_error: float | None) -> str:
    return "no number" if relative_error is None else f"relative error {relative_error:.3g}"


def _build(name: str) -> Any:  # noqa: ANN401 - any network of the registry
    try:
        if name in list_models():
            # CIFAR-10's networks have no pictures of a thousand classes to tell apart.
            return create_model(name, 10 if name.startswith("cifar") else 1000)
        recipe = load_recipe(name)
        return recipe.model.build(1000, recipe.train.augment.crop_px)
    except ModelError as error:
        raise RecipeError(error.problem, remedy=error.remedy) from error
    except RecipeError as error:
        if "/" in name or name.endswith((".yaml", ".yml")):
            raise
        raise RecipeError(
            f"there is no network and no recipe {name!r}",
            remedy="name one of `alexnet recipes`, or one of the networks "
            + ", ".join(list_models()),
        ) from error


def _chosen(network: nn.Module, layers: Sequence[str]) -> dict[str, nn.Parameter]:
    named = dict(network.named_parameters())
    layer_of = {name: name.rpartition(".")[0] for name in named}
    for layer in layers:
        if layer not in layer_of.values():
            raise RecipeError(
                f"the network has no layer {layer!r} with weights",
                remedy=f"choose from {', '.join(dict.fromkeys(layer_of.values()))}",
            )
    return {
        name: parameter
        for name, parameter in named.items()
        if not layers or layer_of[name] in layers
    }
