"""From scores to ranks: which class is best, and how many stand before the true one. Pure."""

import torch
from torch import Tensor

from alexnet.evaluate.rows import ViewRows
from infra.errors import DataError


def judge_rows(scores: Tensor, labels: Tensor) -> ViewRows:
    """Hold each row's scores against its label.

    Args:
        scores: (n, classes) float32 log probabilities.
        labels: (n,) int64, same device.

    Raises:
        DataError: a score is not a number: every comparison with it would count as right.
    """
    refuse_diverged(scores)
    own = scores.gather(1, labels[:, None])[:, 0]
    return ViewRows(
        top5=top_classes(scores, 5).to(torch.int32).cpu().numpy(),
        rank=label_ranks(scores, labels).to(torch.int32).cpu().numpy(),
        loss=-own.to(torch.float64).cpu().numpy(),
        probabilities=scores.exp().to(torch.float16).cpu().numpy(),
    )


def refuse_diverged(outputs: Tensor) -> None:
    """Raise DataError unless all of a network's outputs are finite."""
    if not bool(torch.isfinite(outputs).all()):
        raise DataError(
            "the network's outputs are not all finite numbers",
            remedy="its training diverged: train again with a lower learning rate",
        )


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Count the classes before each row's label, (n,) int64: ties go to the lower class index."""
    own = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & lower)).sum(dim=1)


def top_classes(scores: Tensor, k: int) -> Tensor:
    """Return the k best classes of each row, best first, (n, k); ties as in `label_ranks`."""
    # topk and argmax do not say which of two equals they return; a stable sort does.
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
