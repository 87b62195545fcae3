"""What is told when a GPU's memory does not hold a worker's share of the batch."""

import torch

from infra.errors import RecipeError


def gpu_too_small(error: torch.OutOfMemoryError) -> RecipeError:
    """Return the error that says what to set: another try would meet the same."""
    # Torch's message goes on with its own statistics and settings.
    need = ". ".join(str(error).split(". ")[:3])
    return RecipeError(
        f"a GPU's memory does not hold a worker's share of the batch: {need}",
        remedy="set scaling.microbatch (not with batch norm), use more workers, or a smaller"
        " train.global_batch; if others use the GPU too, run again when it is free: it goes on"
        " from the last checkpoint",
    )
