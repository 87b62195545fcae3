"""Momentum and weight decay exactly as the 2012 program updates them; what came later by option.

    V <- momentum * V + rate * G - weight_decay * rate * W      G: the ascent direction, -gradient
    W <- W + V                      with nesterov: W <- W + momentum * V + (what was added to V)

The rate stands inside the velocity, so after a drop of the rate the old velocity keeps its size
and fades with the momentum; `torch.optim.SGD` shrinks it at once. With a constant rate both agree.
Recipes choose between them: `build_optimizer`.

With `lars_trust` a tensor's rate is multiplied by trust * |W| / (|G| + weight_decay * |W|), where
both norms are above 0 (You, Gitman, Ginsburg, arXiv 1708.03888, with |G| without decay).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from alexnet.settings import OptimizerSettings
from alexnet.train.parameter_groups import parameter_groups
from alexnet.train.schedule import Rates
from alexnet.train.torch_optimizers import torch_adamw, torch_sgd
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
        defaults = {"momentum": settings.momentum, "nesterov": settings.nesterov}
        super().__init__(parameter_groups(named_parameters, settings), defaults)
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


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Make the optimizer of a network's trainable parameters.

    Args:
        model: on its final device, and not wrapped: a wrapper would put its own name first.
    """
    trainable = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    match settings.kind:
        case "sgd-2012":
            return MomentumSgd(trainable, settings)
        case "sgd":
            return torch_sgd(trainable, settings)
        case "adamw":
            return torch_adamw(trainable, settings)


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


def layer_names(optimizer: torch.optim.Optimizer) -> frozenset[str]:
    """Return the layers that a schedule may name."""
    return frozenset(group["layer"] for group in optimizer.param_groups)


def set_rates(optimizer: torch.optim.Optimizer, rates: Rates) -> None:
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


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the rule keeps: the live tensors, which the next step changes.

    By parameter name, `conv1.weight`, for the velocity of 2012; torch's rules name theirs too:
    `conv1.weight/exp_avg`.
    """
    return {
        name if kept == "velocity" else f"{name}/{kept}": tensor
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for kept, tensor in optimizer.state[parameter].items()
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Copy saved state into the optimizer, from any device.

    Raises:
        DataError: a name is missing or too many, or a shape or dtype differs; nothing is loaded.
    """
    own = optimizer_state(optimizer)
    wrong = sorted(own.keys() ^ saved.keys())
    wrong += [name for name in own.keys() & saved.keys() if _differ(own, saved, name)]
    if wrong:
        raise DataError(
            f"the saved state of the optimizer does not fit this network: {', '.join(wrong)}",
            remedy="resume from a checkpoint of this recipe",
        )
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def _differ(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> bool:
    a, b = ours[name], theirs[name]
    return a.shape != b.shape or a.dtype != b.dtype
