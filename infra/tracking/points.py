"""One number at one step of a training: what is journaled and what a tracker draws."""

from typing import Annotated

from pydantic import ConfigDict, Field

from infra.commit import Frozen


class MetricPoint(Frozen):
    """One value of one metric; (key, step) names it within a run."""

    model_config = ConfigDict(allow_inf_nan=True)

    key: Annotated[str, Field(min_length=1)]
    """As the tracker shows it, such as `train/loss`."""
    step: Annotated[int, Field(ge=0)]
    """Global step: updates done."""
    value: float
    """NaN and infinities are allowed: a loss that left the numbers is what one looks for."""
    timestamp_ms: Annotated[int, Field(ge=0)]
    """Wall clock when it was measured, milliseconds since 1970."""
