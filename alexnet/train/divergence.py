"""A training whose loss is no longer a number: told, so that nothing is saved of it."""

import math

from infra.errors import RecipeError


class TrainingDiverged(RecipeError):
    """The loss is no longer a finite number."""


def check_finite(loss: float, when: str) -> float:
    """Return a loss that is a finite number.

    Args:
        loss: of all ranks together, so that they find the same.
        when: ends "the loss is nan …".

    Raises:
        TrainingDiverged: it is not.
    """
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"the loss is {loss} {when}",
            remedy="lower the rates of train.schedule, or look for broken images or labels",
        )
    return loss
