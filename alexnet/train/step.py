"""One step: forward, loss, backward, update; no I/O."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.settings import Precision
from alexnet.train.compiled import MIN_COMPILED_ROWS
from alexnet.train.mixing import BlendedLabels
from alexnet.train.precision import forward_in, multiplying_in


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step is taken on: n images, on the device."""

    images: Tensor
    """(n, 3, height, width) float32."""
    labels: Tensor
    """(n,) int64."""
    sample_keys: Tensor
    """(n,) int64, what dropout masks are drawn from."""
    blended: BlendedLabels | None = None
    """Second labels, where the images are blends of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How every step of a training is taken."""

    precision: Precision = "fp32"
    """In which numbers the passes multiply: `train.precision`."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes, in [0, 1] (Szegedy et al., arXiv
    1512.00567); the loss is then the cross entropy with that."""
    microbatch: int | None = None
    """Most rows that are in the network at once; their gradients add up."""


PLAIN: Final = StepOptions()


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: StepInputs,
    *,
    world_size: int,
    batch_rows: int,
    options: StepOptions = PLAIN,
) -> Tensor:
    """Take one step along the mean gradient of the global batch; return the loss of the own rows.

    DDP averages gradients over ranks, which may hold shares of different size. So each rank's
    loss is its sum times world_size / batch_rows: the average over ranks is then the sum over
    the global batch divided by its size. A rank without rows goes through backward all the same,
    with zeros, because the others wait for it.

    Args:
        model: called as `model(images, sample_keys)`; returns logits, (n, classes).
        inputs: this rank's share; n may be 0.
        world_size: ranks that DDP averages over; 1 without DDP.
        batch_rows: rows of the global batch, at least 1; the last one of an epoch is smaller.
        options: the same in every step.

    Returns:
        Sum of -ln p(label) over the own rows, natural logarithm (smoothed like the target):
        float32, 0-dim, detached, and still on the device, so that nothing waits for it.
    """
    optimizer.zero_grad(set_to_none=True)
    images, keys = inputs.images, inputs.sample_keys
    total = torch.zeros((), device=images.device)
    for piece, is_last in _pieces(len(images), options.microbatch):
        # Ranks wait for each other once, in the last piece, though they may have more or fewer.
        sync = nullcontext() if is_last else _unsynchronised(model)
        with multiplying_in(options.precision), sync, _eager_if_small(piece):
            with forward_in(options.precision, images.device):
                logits = model(images[piece], keys[piece])
            # The sum runs in float32 at least: a softmax in bfloat16 keeps two digits.
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss_sum = _loss_sum(logits, inputs, piece, options.label_smoothing)
            loss = loss_sum * (world_size / batch_rows)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += loss_sum.detach()
    optimizer.step()
    return total


def _loss_sum(logits: Tensor, inputs: StepInputs, piece: slice, label_smoothing: float) -> Tensor:
    labels, blended = inputs.labels, inputs.blended
    if blended is None:
        return functional.cross_entropy(
            logits, labels[piece], reduction="sum", label_smoothing=label_smoothing
        )
    own, other = (
        functional.cross_entropy(
            logits, targets[piece], reduction="none", label_smoothing=label_smoothing
        )
        for targets in (labels, blended.others)
    )
    return torch.lerp(other, own, blended.shares[piece].to(own.dtype)).sum()


def _pieces(rows: int, microbatch: int | None) -> Iterator[tuple[slice, bool]]:
    """Cut rows into pieces, at least one, and tell the last."""
    size = max(rows if microbatch is None else microbatch, 1)
    starts = range(0, max(rows, 1), size)
    for start in starts:
        yield slice(start, min(start + size, rows)), start == starts[-1]


def _eager_if_small(piece: slice) -> AbstractContextManager[None]:
    if piece.stop - piece.start < MIN_COMPILED_ROWS:
        # torch 2.13 cannot compile a convolution of no images, and would compile one image anew.
        as_it_is: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return as_it_is
    return nullcontext()


def _unsynchronised(model: nn.Module) -> AbstractContextManager[None]:
    if isinstance(model, nn.parallel.DistributedDataParallel):
        synchronise_later: AbstractContextManager[None] = model.no_sync()
        return synchronise_later
    return nullcontext()
