"""Momentum and weight decay exactly as the 2012 program updates them; what came later by option.

    V <- momentum * V + rate * G - weight_decay * rate * W      G: the ascent direction, -gradient
    W <- W + V                      with nesterov: W <- W + momentum * V + (what was added to V)

The rate stands inside the velocity, so after a drop of the rate the old velocity keeps its size
and fades with the momentum; `torch.optim.SGD` shrinks it at once. With a constant rate both agree.

With `lars_trust` a tensor's rate is multiplied by trust * |W| / (|G| + weight_decay * |W|), where
both norms are above 0 (You, Gitman, Ginsburg, arXiv 1708.03888, with |G| without decay).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from alexnet.settings import OptimizerSettings
from alexnet.train.schedule import Kind, Rates
from infra.errors import DataError, RecipeError


class MomentumSgd(torch.optim.Optimizer):
    """The update above, with a rate for each layer's weights and one for its biases.

    A group is one layer's weights or biases: `conv1/weight`, `conv1/bias`. A group of rate 0 is
    left entirely alone: no decay, and its velocity stays as it is. So is a parameter without a
    gradient. Rates come from `set_rates`, which must precede the first step.

    Args:
        named_parameters: as of `model.named_parameters()`, on their final device: the velocities
            are made here, zero, beside them.

    Raises:
        RuntimeError: a step before `set_rates`.

    Source:
        The release's `src/weights.cu`, `Weights::update`; `src/layer.cu` line 565 for biases.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings
    ) -> None:
        members: defaultdict[tuple[str, Kind], list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for name, parameter in named_parameters:
            members[layer_of(name), kind_of(name)].append((name, parameter))
        groups = [
            {
                "params": pairs,
                "name": f"{layer}/{kind}",
                "layer": layer,
                "kind": kind,
                "weight_decay": _decay_of(layer, kind, pairs, settings),
            }
            for (layer, kind), pairs in members.items()
        ]
        defaults = {"momentum": settings.momentum, "nesterov": settings.nesterov, "rate": None}
        super().__init__(groups, defaults)
        self._trust, self._clip_norm = settings.lars_trust, settings.clip_norm
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["velocity"] = torch.zeros_like(parameter)

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures here
        """Move every parameter once along the gradients of the last backward pass."""
        momentum = self.defaults["momentum"]
        if self._clip_norm is not None:
            every = (weight for group in self.param_groups for weight in group["params"])
            nn.utils.clip_grad_norm_(every, self._clip_norm)
        with torch.no_grad():
            for (rate, weight_decay), weights in self._moving().items():
                velocities = [self.state[weight]["velocity"] for weight in weights]
                gradients = [weight.grad for weight in weights if weight.grad is not None]
                torch._foreach_mul_(velocities, momentum)
                if self._trust is not None:
                    gradients = _trusted(weights, gradients, weight_decay, self._trust)
                    weight_decay = 0.0  # it is in there
                torch._foreach_add_(velocities, gradients, alpha=-rate)
                if weight_decay:
                    torch._foreach_add_(velocities, weights, alpha=-rate * weight_decay)
                if self.defaults["nesterov"]:
                    torch._foreach_mul_(weights, 1 - rate * weight_decay)
                    torch._foreach_add_(weights, gradients, alpha=-rate)
                    torch._foreach_add_(weights, velocities, alpha=momentum)
                else:
                    torch._foreach_add_(weights, velocities)

    def _moving(self) -> dict[tuple[float, float], list[Tensor]]:
        """Parameters that move, by rate and decay: two lists in most steps, whatever the depth."""
        moving: defaultdict[tuple[float, float], list[Tensor]] = defaultdict(list)
        for group in self.param_groups:
            if group["rate"] is None:
                raise RuntimeError(f"{group['name']} has no rate yet: call set_rates before step")
            if group["rate"] > 0:
                weights = [weight for weight in group["params"] if weight.grad is not None]
                moving[group["rate"], group["weight_decay"]] += weights
        return moving


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> MomentumSgd:
    """Make the optimizer of a network's trainable parameters.

    Args:
        model: on its final device, and not wrapped: a wrapper would put its own name first.
    """
    trainable = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    return MomentumSgd(trainable, settings)


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
    """Return a group's decay: biases have none, nor the scales of norms, unless all are decayed."""
    is_matrix = kind == "weight" and all(parameter.dim() > 1 for _, parameter in members)
    if not is_matrix and not settings.decay_all:
        return 0.0
    return settings.layer_decay.get(layer, settings.weight_decay)


def _trusted(
    weights: list[Tensor], gradients: list[Tensor], weight_decay: float, trust: float
) -> list[Tensor]:
    """Return gradients with decay, each times its tensor's local rate."""
    sizes = torch.stack(torch._foreach_norm(weights))
    slopes = torch.stack(torch._foreach_norm(gradients))
    local = trust * sizes / (slopes + weight_decay * sizes)
    # Where a norm is 0, so is the direction, or nothing is known of the scale.
    local = torch.where((sizes > 0) & (slopes > 0), local, torch.ones_like(local))
    decayed = torch._foreach_add(gradients, weights, alpha=weight_decay)
    torch._foreach_mul_(decayed, list(local.unbind()))
    return list(decayed)


def layer_names(optimizer: MomentumSgd) -> frozenset[str]:
    """Return the layers that a schedule may name."""
    return frozenset(group["layer"] for group in optimizer.param_groups)


def set_rates(optimizer: MomentumSgd, rates: Rates) -> None:
    """Give every group its rate for the steps to come.

    Raises:
        RecipeError: the rates name a layer that the network does not have.
    """
    known = layer_names(optimizer)
    unknown = sorted(rates.layers.keys() - known)
    if unknown:
        raise RecipeError(
            f"the schedule names layers that the network does not have: {', '.join(unknown)}",
            remedy=f"name one of {', '.join(sorted(known))}",
        )
    for group in optimizer.param_groups:
        group["rate"] = rates.of(group["layer"], group["kind"])


def velocity_state(optimizer: MomentumSgd) -> dict[str, Tensor]:
    """Return the velocities by parameter name: the live tensors, which the next step changes."""
    return {
        name: optimizer.state[parameter]["velocity"]
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }


def load_velocity(optimizer: MomentumSgd, velocities: Mapping[str, Tensor]) -> None:
    """Copy saved velocities into the optimizer, from any device.

    Raises:
        DataError: a name is missing or too many, or a shape or dtype differs; nothing is loaded.
    """
    own = velocity_state(optimizer)
    wrong = sorted(own.keys() ^ velocities.keys())
    wrong += [name for name in own.keys() & velocities.keys() if _differ(own, velocities, name)]
    if wrong:
        raise DataError(
            f"the saved velocities do not fit this network: {', '.join(wrong)}",
            remedy="resume from a checkpoint of this recipe",
        )
    for name, velocity in own.items():
        velocity.copy_(velocities[name])


def _differ(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> bool:
    a, b = ours[name], theirs[name]
    return a.shape != b.shape or a.dtype != b.dtype
