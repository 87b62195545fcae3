"""Autograd's gradients held against finite differences of the loss, in float64.

The release moves every weight by itself: two passes a weight, hours for 61 million. Here a tensor
is moved along random directions, all of its weights at once, and a few weights by themselves. Along
a direction v with independent normal entries the error of g v has the spread |error of g|, and g v
the spread |g|: so the ratio of norms that the release judges is what a few directions estimate.

Source: `ConvNet::checkGradients` in the release's `convnet.cu`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.model.dropout import KeyedDropout

LIMIT: Final = 0.02
"""Relative error from which on a gradient is wrong; the release's."""
DIRECTIONS: Final = 3
SINGLES: Final = 2
"""Weights moved by themselves: the one with the steepest gradient, and others at random."""
_CHANGE: Final = 1e-10
"""By how much a step should change the loss. Rounding changes it by some 1e-15; with 1e-8 steps
cross so many kinks of ReLUs and pools that errors of sound gradients reached 0.03."""
_LONGEST: Final = 1e-3
"""Longest step, in units of the tensor's own spread."""
_SPREAD: Final = 100.0
"""Of hidden units: there the response norms, made for pixels of 0 to 255, bend."""
_NOTHING: Final = 1e-8
"""Derivatives below are noise: a bias in front of a batch norm has no influence at all."""


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """How far one tensor's gradient is from finite differences."""

    name: str
    count: int
    """Weights in it."""
    derivative: float
    """Norm of the finite differences, by a step of the tensor's own spread."""
    relative_error: float
    """Norm of the differences from autograd, divided by the greater of the two norms; of the
    directions or of the single weights, whichever is worse."""

    @property
    def is_sound(self) -> bool:
        """Whether the gradient is right."""
        return self.relative_error < LIMIT


def check_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, parameters: dict[str, nn.Parameter]
) -> Iterator[GradientCheck]:
    """Check some of a network's parameters, one after the other.

    The network computes in training mode, but for dropout, which is in test mode as in the
    release: so batch norms are checked as they train. First its weights are scaled layer by layer,
    until hidden units have a spread of 100 and logits one of 1: with those it starts from signals
    may be so small that any step crosses kinks, and norms so straight that no error of theirs would
    show. It is left so, and in float64.

    Args:
        network: any of the registry, or one like them.
        images: (n, 3, height, width), any float dtype; with batch norms n is 4 or more.
        labels: (n,) int64.
        parameters: those to check, by name.

    Random directions are drawn from torch's global generator: seed it first.
    """
    network.double().train()
    for module in network.modules():
        if isinstance(module, KeyedDropout | nn.Dropout):
            module.eval()
    images = images.double()
    spread_signals(network, images)

    def loss() -> Tensor:
        return functional.cross_entropy(network(images), labels)

    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    with torch.no_grad():
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            yield _check(name, parameter, gradient, loss)


@torch.no_grad()
def spread_signals(network: nn.Module, *inputs: Tensor) -> None:
    """Scale a network's weights in place, layer by layer: hidden units get a spread of 100.

    With those it starts from a response norm divides by 2 + 1e-6: whoever left its sums out would
    compute the same. Logits get a spread of 1.

    Args:
        network: in the mode in which it is to compute; the moving averages of norms change too.
        inputs: what it is called with.
    """
    scaled: list[nn.Module] = []

    def scale(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        factor = _SPREAD / float(output.std())
        for parameter in module.parameters(recurse=False):
            parameter.mul_(factor)
        scaled.append(module)
        return output * factor

    hooks = [
        module.register_forward_hook(scale)
        for module in network.modules()
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter) and weight.dim() > 1
    ]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    for parameter in scaled[-1].parameters(recurse=False):  # the logits'
        parameter.div_(_SPREAD)


def _check(
    name: str, parameter: nn.Parameter, gradient: Tensor, loss: Callable[[], Tensor]
) -> GradientCheck:
    spread = float(parameter.square().mean().sqrt()) or 1.0
    together = [
        _along(parameter, gradient, torch.randn_like(parameter).mul_(spread), loss)
        for _ in range(DIRECTIONS)
    ]
    alone = [
        _along(parameter, gradient, _single(parameter, place).mul_(spread), loss)
        for place in _places(gradient)
    ]
    return GradientCheck(
        name=name,
        count=parameter.numel(),
        derivative=math.hypot(*(difference for _, difference in together)),
        # Apart: beside a whole direction a single weight would count for nothing.
        relative_error=_worst(_relative_error(together), _relative_error(alone)),
    )


def _places(gradient: Tensor) -> list[int]:
    steepest = int(gradient.abs().argmax())
    return [steepest, *torch.randint(gradient.numel(), (SINGLES - 1,)).tolist()]


def _single(parameter: Tensor, place: int) -> Tensor:
    direction = torch.zeros_like(parameter)
    direction.view(-1)[place] = 1.0
    return direction


def _worst(*errors: float) -> float:
    """Return the greatest; what is no number is worse than any, and `max` would pass over it."""
    return next(filter(math.isnan, errors), max(errors))


def _relative_error(pairs: list[tuple[float, float]]) -> float:
    error = math.hypot(*(ours - difference for ours, difference in pairs))
    norms = (math.hypot(*one_side) for one_side in zip(*pairs, strict=True))
    return error / _worst(*norms, _NOTHING)


def _along(
    parameter: nn.Parameter, gradient: Tensor, direction: Tensor, loss: Callable[[], Tensor]
) -> tuple[float, float]:
    """Return the derivative along a direction: by the gradient, and by a central difference."""
    ours = float((gradient * direction).sum())
    step = min(_CHANGE / abs(ours), _LONGEST) if ours else _LONGEST
    kept = parameter.clone()
    values = []
    for sign in (1, -1):
        parameter.copy_(kept).add_(direction, alpha=sign * step)
        values.append(float(loss()))
    parameter.copy_(kept)
    return ours, (values[0] - values[1]) / (2 * step)
