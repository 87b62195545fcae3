"""Batch normalisation over the global batch, on any device and with shares of any size.

torch's own SyncBatchNorm runs on CUDA only. Here every rank takes part in each sum, one without
rows too, so that a network learns the same (up to the order of sums) on any number of workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

EPS: Final = 1e-4
MOMENTUM: Final = 0.1


class GlobalBatchNorm(nn.Module):
    """Normalise every channel by the mean and variance of the batch, then scale and shift.

    Training uses the statistics of all ranks' rows together (float32 sums) and keeps moving
    averages of them; evaluation uses those. The variance that is kept is the unbiased one; that
    of a single value is 0.

    Args:
        channels: dimension 1 of the input.
        learns: whether the scale and the shift are parameters; else they stay 1 and 0.

    Source:
        Ioffe and Szegedy, arXiv 1502.03167; constants of NVIDIA's Caffe, `models/alexnet_bn`.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, learns: bool = True) -> None:
        super().__init__()
        if learns:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        else:
            self.register_buffer("weight", torch.ones(channels), persistent=False)
            self.register_buffer("bias", torch.zeros(channels), persistent=False)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised; same shape (batch, channels, ...) and dtype."""
        # torch refuses a single value a channel, which a last batch of one image has in a fully
        # connected layer: its variance is 0 here, as it is where several ranks have it.
        is_lone = x.numel() == x.shape[1]
        if self.training and (is_lone or _world_size() > 1):
            return self._over_all_ranks(x)
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=MOMENTUM,
            eps=EPS,
        )

    def _over_all_ranks(self, x: Tensor) -> Tensor:
        normalised: Tensor
        normalised, mean, var, count = _GlobalNormalise.apply(  # type: ignore[no-untyped-call]  # torch leaves it so
            x, self.weight, self.bias
        )
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(unbiased, MOMENTUM)
        return normalised

    def extra_repr(self) -> str:
        """Show the size where a printed network lists its layers."""
        return f"{len(self.weight)}"


@contextmanager
def averages_kept(network: nn.Module) -> Iterator[None]:
    """Leave the moving averages of a network's batch norms as they are, whatever it computes."""
    averages = [
        (average, average.clone())
        for norm in network.modules()
        if isinstance(norm, GlobalBatchNorm)
        for average in (norm.running_mean, norm.running_var)
    ]
    yield
    for average, before in averages:
        average.copy_(before)


class _GlobalNormalise(torch.autograd.Function):
    """y = weight * (x - mean) / std + bias, mean and std over all ranks' rows and positions.

    With z = (x - mean) / std and g the gradient for weight * z, that for x is
    (g - mean(g) - z * mean(g * z)) / std, both means again over all ranks.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        dims, shape = _others(x), _channel_shape(x)
        values = x.float()
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        totals = _total(torch.cat([values.sum(dims), count]))
        count, mean = totals[-1], totals[:-1] / totals[-1]
        # A second pass for the variance: a difference of two large sums would lose its digits.
        centred = values - mean.view(shape)
        var = _total(centred.square().sum(dims)) / count
        inverse_std = (var + EPS).rsqrt()
        z = centred * inverse_std.view(shape)
        ctx.save_for_backward(z, weight, inverse_std, count)
        ctx.mark_non_differentiable(mean, var, count)
        y = z * weight.view(shape) + bias.view(shape)
        return y.to(x.dtype), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, ...]:
        z, weight, inverse_std, count = ctx.saved_tensors  # type: ignore[attr-defined]  # set by torch
        gradient = gradients[0]
        dims, shape = _others(z), _channel_shape(z)
        g = gradient.float()
        own = torch.stack([g.sum(dims), (g * z).sum(dims)])
        means = _total(own.clone()) / count
        inner = g - means[0].view(shape) - z * means[1].view(shape)
        for_x = inner * (weight * inverse_std).view(shape)
        # This rank's part only: DDP sums parameters' gradients itself.
        return for_x.to(gradient.dtype), own[1], own[0]


def _world_size() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _total(values: Tensor) -> Tensor:
    if _world_size() > 1:
        torch.distributed.all_reduce(values)
    return values


def _others(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _channel_shape(x: Tensor) -> tuple[int, ...]:
    return (1, -1, *(1 for _ in range(x.dim() - 2)))
