"""The release's two response norms, across maps and within a map: one formula, two windows.

Written in closed form, gradient included: the window sum is a handful of shifted additions. On CPUs
images are taken a few at a time, which is six times the speed of torch's own norm; compiled it is
ten times that (`benchmarks/local_response_norm.py`).
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from alexnet.model.errors import ModelError

PART: Final = 2**18
"""Activations at a time for each CPU thread: a megabyte of float32, which stays in its cache."""


def local_response_norm(
    activations: Tensor,
    *,
    size: int = 5,
    scale: float = 1e-4,
    power: float = 0.75,
    constant: float = 2.0,
    towers: int = 1,
) -> Tensor:
    """Damp each activation by the energy of its neighbours in map order.

        b[i] = a[i] * (constant + scale / size * sum(a[j] ** 2 for j in the window of i)) ** -power

    The window is `size` maps around i; for an even size, one more below than above. Maps past
    either end count as zero while the divisor stays `size`, so the outermost are damped less.

    Args:
        activations: (batch, channel, height, width), any float dtype and layout, batch 0 included.
        scale: weight of the mean square, as in the release's files; the paper's printed formula
            leaves out the division, and its alpha of 1e-4 would be a scale of 5e-4.
        towers: channels are split into this many equal contiguous groups; no window crosses over.

    Returns:
        Same shape, dtype and layout. The sum runs in float32 at least: beside a constant of 2,
        bfloat16 rounds away anything below 1/128. Gradients of gradients are refused by autograd.

    Raises:
        ModelError: not four dimensions, a size below 1, or channels that do not split evenly.

    Source:
        `cmrnorm` of the 2012 release; Krizhevsky et al. 2012, section 3.3.
    """
    _check(activations, size)
    batch, channels, height, width = activations.shape
    if towers < 1 or channels % towers:
        raise ModelError(
            f"{channels} channels do not split into {towers} towers",
            "give a number of towers that divides the channels",
        )
    by_tower = activations.view(batch, towers, channels // towers, height, width)
    return _normalise(by_tower, (2,), size, scale / size, power, constant).flatten(1, 2)


def same_map_norm(
    activations: Tensor,
    *,
    size: int = 5,
    scale: float = 1e-3,
    power: float = 0.75,
    constant: float = 1.0,
) -> Tensor:
    """Damp each activation by the energy around it in its own map.

        b = a * (constant + scale / size ** 2 * sum(a ** 2 in the window)) ** -power

    The window is size x size pixels around the activation; for an even size, one more above and
    to the left. It is clipped to the image while the divisor stays `size` squared.

    Args:
        activations: (batch, channel, height, width), any float dtype and layout, batch 0 included.

    Returns:
        Same shape, dtype and layout; computed in float32 at least.

    Raises:
        ModelError: not four dimensions, or a size below 1.

    Source:
        `rnorm` of the 2012 release, there in block 2 (as `cnorm2`); not in the paper.
    """
    _check(activations, size)
    return _normalise(activations, (2, 3), size, scale / size**2, power, constant)


class LocalResponseNorm(nn.Module):
    """`local_response_norm` as a layer; no parameters."""

    def __init__(
        self,
        size: int = 5,
        scale: float = 1e-4,
        power: float = 0.75,
        constant: float = 2.0,
        towers: int = 1,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale = scale
        self.power = power
        self.constant = constant
        self.towers = towers

    def forward(self, activations: Tensor) -> Tensor:
        """Return the damped activations, same shape (batch, channel, height, width)."""
        return local_response_norm(
            activations,
            size=self.size,
            scale=self.scale,
            power=self.power,
            constant=self.constant,
            towers=self.towers,
        )

    def extra_repr(self) -> str:
        """Show the constants where a printed network lists its layers."""
        return (
            f"size={self.size}, scale={self.scale}, power={self.power}, "
            f"constant={self.constant}, towers={self.towers}"
        )


class SameMapNorm(nn.Module):
    """`same_map_norm` as a layer; no parameters."""

    def __init__(
        self, size: int = 5, scale: float = 1e-3, power: float = 0.75, constant: float = 1.0
    ) -> None:
        super().__init__()
        self.size = size
        self.scale = scale
        self.power = power
        self.constant = constant

    def forward(self, activations: Tensor) -> Tensor:
        """Return the damped activations, same shape (batch, channel, height, width)."""
        return same_map_norm(
            activations,
            size=self.size,
            scale=self.scale,
            power=self.power,
            constant=self.constant,
        )

    def extra_repr(self) -> str:
        """Show the constants where a printed network lists its layers."""
        return f"size={self.size}, scale={self.scale}, power={self.power}, constant={self.constant}"


def _check(activations: Tensor, size: int) -> None:
    if activations.dim() != 4:
        raise ModelError(
            f"activations have shape {tuple(activations.shape)}",
            "give (batch, channel, height, width)",
        )
    if size < 1:
        raise ModelError(f"the window size is {size}", "give at least 1")


def _normalise(
    activations: Tensor,
    dims: Sequence[int],
    size: int,
    weight: float,
    power: float,
    constant: float,
) -> Tensor:
    normalised: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]  # torch leaves it so
        activations, dims, size, weight, power, constant
    )
    return normalised


class _Normalise(torch.autograd.Function):
    """a * d ** -power with d = constant + weight * (sum of a ** 2 over the window along `dims`).

    The gradient for a, given g for the result, with W' the sum over the mirrored window:
    g * d ** -power - 2 * power * weight * a * W'(g * a * d ** (-power - 1)).
    What is kept is d ** -0.5: its root and its square give both powers without a division.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        activations: Tensor,
        dims: Sequence[int],
        size: int,
        weight: float,
        power: float,
        constant: float,
    ) -> Tensor:
        def normalise(part: Tensor) -> tuple[Tensor, ...]:
            a = _at_least_float32(part)
            bracket = _window_sum(a * a, dims, size // 2, (size - 1) // 2)
            inverse_root = bracket.mul_(weight).add_(constant).rsqrt_()
            return _damping(inverse_root, power).mul_(a).to(part.dtype), inverse_root

        normalised, inverse_root = _by_parts(normalise, activations)
        ctx.save_for_backward(activations, inverse_root)
        ctx.constants = (dims, size, weight, power)  # type: ignore[attr-defined]  # torch's own way
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        activations, inverse_root = ctx.saved_tensors  # type: ignore[attr-defined]  # set by torch
        dims, size, weight, power = ctx.constants  # type: ignore[attr-defined]  # set in forward

        def differentiate(part: Tensor, root: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
            a = _at_least_float32(part)
            damped = _damping(root, power).mul_(gradient)
            spread = (damped * a).mul_(root).mul_(root)
            spread = _window_sum(spread, dims, (size - 1) // 2, size // 2)
            return (damped.addcmul_(spread, a, value=-2.0 * power * weight).to(part.dtype),)

        (own,) = _by_parts(differentiate, activations, inverse_root, gradient)
        return own, None, None, None, None, None


def _by_parts(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
    """Apply what treats images apart to a few at a time, on a CPU: same bits, less memory.

    Compilers and GPUs want the whole.
    """
    images = len(tensors[0])
    in_parts = tensors[0].device.type == "cpu" and not torch.compiler.is_compiling()
    if not in_parts or images == 0:
        return function(*tensors)
    rows = max(1, PART * torch.get_num_threads() // max(1, tensors[0][0].numel()))
    if rows >= images:
        return function(*tensors)
    whole: tuple[Tensor, ...] = ()
    for start in range(0, images, rows):
        found = function(*(tensor[start : start + rows] for tensor in tensors))
        whole = whole or tuple(torch.empty_like(tensors[0], dtype=one.dtype) for one in found)
        for target, one in zip(whole, found, strict=True):
            target[start : start + rows] = one
    return whole


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _damping(inverse_root: Tensor, power: float) -> Tensor:
    """Return bracket ** -power, given bracket ** -0.5."""
    if power == 0.75:
        # One root and a product take a fraction of the time of a general power.
        return inverse_root.sqrt().mul_(inverse_root)
    return inverse_root.pow(2 * power)


def _window_sum(values: Tensor, dims: Sequence[int], before: int, after: int) -> Tensor:
    """Sum each value with `before` neighbours on the lower side and `after` on the upper."""
    # A compiler turns shifts in place into a tree of conditions for every value, and padding into
    # plain reads; a padded copy that is really made loses a channels_last layout, and half the
    # speed with it.
    one_dim = _padded_sum if torch.compiler.is_compiling() else _shifted_sum
    for dim in dims:
        values = one_dim(values, dim, before, after)
    return values


def _padded_sum(values: Tensor, dim: int, before: int, after: int) -> Tensor:
    length = values.shape[dim]
    padded = functional.pad(values, [0, 0] * (values.dim() - 1 - dim) + [before, after])
    total = padded.narrow(dim, 0, length)
    for start in range(1, before + after + 1):
        total = total + padded.narrow(dim, start, length)
    return total


def _shifted_sum(values: Tensor, dim: int, before: int, after: int) -> Tensor:
    length = values.shape[dim]
    total = values.clone()
    for shift in range(1, min(before, length - 1) + 1):
        rest = length - shift
        total.narrow(dim, shift, rest).add_(values.narrow(dim, 0, rest))
    for shift in range(1, min(after, length - 1) + 1):
        rest = length - shift
        total.narrow(dim, 0, rest).add_(values.narrow(dim, shift, rest))
    return total
