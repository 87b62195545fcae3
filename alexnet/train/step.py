"""One step: forward, loss, backward, update; no I/O."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.train.compiled import LEAST
from alexnet.train.mixing import BlendedLabels


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    sample_keys: Tensor,
    *,
    world_size: int,
    batch_rows: int,
    blended: BlendedLabels | None = None,
    label_smoothing: float = 0.0,
    autocast_dtype: torch.dtype | None = None,
    microbatch: int | None = None,
) -> Tensor:
    """Take one step along the mean gradient of the global batch; return the loss of the own rows.

    DDP averages gradients over ranks, which may hold shares of different size. So each rank's
    loss is its sum times world_size / batch_rows: the average over ranks is then the sum over
    the global batch divided by its size. A rank without rows goes through backward all the same,
    with zeros, because the others wait for it.

    Args:
        model: called as `model(images, sample_keys)`; returns logits, (n, classes).
        images: (n, 3, height, width) float32, this rank's share; n may be 0.
        labels: (n,) int64.
        sample_keys: (n,) int64, what dropout masks are drawn from.
        world_size: ranks that DDP averages over; 1 without DDP.
        batch_rows: rows of the global batch, at least 1; the last one of an epoch is smaller.
        blended: second labels, where the images are blends of two.
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1]
            (Szegedy et al., arXiv 1512.00567); the loss is then the cross entropy with that.
        autocast_dtype: runs the forward pass in this type, bfloat16 say; none is float32.
            Not float16: its gradients need a scaler.
        microbatch: most rows that are in the network at once; their gradients add up.

    Returns:
        Sum of -ln p(label) over the own rows, natural logarithm (smoothed like the target):
        float32, 0-dim, detached, and still on the device, so that nothing waits for it.
    """
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=images.device)
    for piece, is_last in _pieces(len(labels), microbatch):
        # Ranks wait for each other once, in the last piece, though they may have more or fewer.
        with nullcontext() if is_last else _unsynchronised(model), _called(piece):
            with torch.autocast(
                images.device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None
            ):
                logits = model(images[piece], sample_keys[piece])
            # The sum runs in float32 at least: a softmax in bfloat16 keeps two digits.
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss_sum = _loss_sum(logits, labels, blended, piece, label_smoothing)
            loss = loss_sum * (world_size / batch_rows)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += loss_sum.detach()
    optimizer.step()
    return total


def _loss_sum(
    logits: Tensor,
    labels: Tensor,
    blended: BlendedLabels | None,
    piece: slice,
    label_smoothing: float,
) -> Tensor:
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


def _called(piece: slice) -> AbstractContextManager[None]:
    if piece.stop - piece.start < LEAST:
        # torch 2.13 cannot compile a convolution of no images, and would compile one image anew.
        as_it_is: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return as_it_is
    return nullcontext()


def _unsynchronised(model: nn.Module) -> AbstractContextManager[None]:
    if isinstance(model, nn.parallel.DistributedDataParallel):
        synchronise_later: AbstractContextManager[None] = model.no_sync()
        return synchronise_later
    return nullcontext()
