"""torch's own update rules under our rates: SGD, whose rate stands outside the velocity, and AdamW.

    SGD     V <- momentum * V + G + weight_decay * W;   W <- W - rate * V      G: the gradient
    AdamW   Loshchilov and Hutter, arXiv 1711.05101: rate * weight_decay * W goes off beside it

What holds for `MomentumSgd` holds here: a group of rate 0 is left entirely alone, and so is a
parameter without a gradient; rates come from `set_rates`, and a step before it is refused. The
state is made at once, zero as torch would make it, so that a checkpoint can be loaded into it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from alexnet.settings import OptimizerSettings
from alexnet.train.parameter_groups import parameter_groups


def torch_sgd(
    named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> torch.optim.SGD:
    """Make torch's SGD of these parameters, which are on their final device."""
    groups = parameter_groups(named_parameters, settings)
    optimizer = torch.optim.SGD(
        groups,
        lr=0.0,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        **_implementation(groups),
    )
    for weight in _weights(optimizer):
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    _put_under_our_rates(optimizer, settings)
    return optimizer


def torch_adamw(
    named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """Make torch's AdamW of these parameters, which are on their final device."""
    groups = parameter_groups(named_parameters, settings)
    implementation = _implementation(groups)
    optimizer = torch.optim.AdamW(
        groups,
        lr=0.0,
        betas=(settings.momentum, settings.second_momentum),
        eps=settings.epsilon,
        **implementation,
    )
    for weight in _weights(optimizer):
        counted_on = weight.device if "fused" in implementation else torch.device("cpu")
        optimizer.state[weight] = {
            "step": torch.zeros((), device=counted_on),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
    _put_under_our_rates(optimizer, settings)
    return optimizer


def _implementation(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Say how torch is to go over the parameters: in one kernel on a GPU, else in lists."""
    on_gpu = all(weight.is_cuda for group in groups for _, weight in group["params"])
    return {"fused": True} if on_gpu and groups else {"foreach": True}


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _put_under_our_rates(optimizer: torch.optim.Optimizer, settings: OptimizerSettings) -> None:
    def prepare(rule: torch.optim.Optimizer, *_: object) -> None:
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(_weights(rule), settings.clip_norm)
        for group in rule.param_groups:
            if group["rate"] is None:
                raise RuntimeError(f"{group['name']} has no rate yet: call set_rates before step")
            group["lr"] = group["rate"]
            if group["rate"] == 0:
                for weight in group["params"]:
                    weight.grad = None  # torch would still move its state

    optimizer.register_step_pre_hook(prepare)
