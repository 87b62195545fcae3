"""A network's parameters in the groups that a schedule knows: a layer's weights, and its biases."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torch import nn

from alexnet.settings import OptimizerSettings
from alexnet.train.schedule import Kind


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """Return torch's groups, one for each layer's weights or biases: `conv1/weight`, `conv1/bias`.

    Each has its `name`, `layer`, `kind` and `weight_decay`, and a `rate` that is None until
    `set_rates` gives one.

    Args:
        named_parameters: as of `model.named_parameters()`.
        settings: what is decayed, and how much.
    """
    members: defaultdict[tuple[str, Kind], list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in named_parameters:
        members[layer_of(name), kind_of(name)].append((name, parameter))
    return [
        {
            "params": pairs,
            "name": f"{layer}/{kind}",
            "layer": layer,
            "kind": kind,
            "weight_decay": _decay_of(layer, kind, pairs, settings),
            "rate": None,
        }
        for (layer, kind), pairs in members.items()
    ]


def decayed_layers(
    named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> frozenset[str]:
    """Return the layers of which something is decayed, if only by 0."""
    return frozenset(
        group["layer"]
        for group in parameter_groups(named_parameters, settings)
        if _is_decayed(group["kind"], group["params"], settings)
    )


def layer_of(parameter_name: str) -> str:
    """Return a parameter's layer: `conv1` of `conv1.weight`, `features.0` of `features.0.weight`.

    The number is part of the layer only where the network is one numbered sequence, as
    torchvision's is.
    """
    first, *rest = parameter_name.split(".")
    numbered = len(rest) == 2 and rest[0].isdigit()
    return f"{first}.{rest[0]}" if numbered else first


def kind_of(parameter_name: str) -> Kind:
    """Tell a bias, by the last component of its name, from everything else, a weight."""
    return "bias" if parameter_name.rpartition(".")[2] == "bias" else "weight"


def _decay_of(
    layer: str, kind: Kind, members: list[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> float:
    if not _is_decayed(kind, members, settings):
        return 0.0
    return settings.layer_decay.get(layer, settings.weight_decay)


def _is_decayed(
    kind: Kind, members: list[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> bool:
    """Tell whether a group is: biases are not, nor the scales of norms, unless all are decayed."""
    is_matrix = kind == "weight" and all(parameter.dim() > 1 for _, parameter in members)
    return is_matrix or settings.decay_all
