"""What a recipe says about learning rates and colour noise over a run; torch-free."""

from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from infra.commit import Frozen

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LayerRates(Frozen):
    """The two rates of one layer; a rate of 0 freezes what it belongs to."""

    weight_rate: Rate
    """Learning rate of the layer's weights."""
    bias_rate: Rate
    """Learning rate of the layer's biases."""


class Phase(Frozen):
    """The rates from one epoch up to the next phase; nothing is inherited from the one before."""

    from_epoch: Annotated[int, Field(ge=1)]
    """First epoch of the phase, counted from 1 as in the release's logs."""
    weight_rate: Rate
    """Learning rate of all weights that `layers` does not name."""
    bias_rate: Rate
    """Learning rate of all biases that `layers` does not name."""
    layers: dict[str, LayerRates] = Field(default_factory=dict)
    """Layers with rates of their own, by name; both rates are given."""
    color_noise: Rate | None = None
    """Strength of the colour noise; none keeps the augmentation's own value."""


class PhasesSchedule(Frozen):
    """Rates by hand: constant within a phase, whole epochs long."""

    kind: Literal["phases"] = "phases"
    """Rates that change at given epochs."""
    # Not strict: YAML knows lists only.
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, strict=False)]
    """In order; the first starts at epoch 1."""

    @model_validator(mode="after")
    def _phases_follow_each_other(self) -> "PhasesSchedule":
        starts = [phase.from_epoch for phase in self.phases]
        if starts[0] != 1:
            raise ValueError(f"the first phase starts at epoch {starts[0]}, not at 1")
        if any(late >= later for late, later in pairwise(starts)):
            raise ValueError(f"phases start at epochs {starts}, which do not increase")
        return self


class Staircase(Frozen):
    """`steps` rates of equal duration from `base` down to `base / factor`, evenly in logarithm."""

    base: Rate
    """The first rate."""
    factor: Annotated[float, Field(gt=0)]
    """The first rate over the last."""
    steps: Annotated[int, Field(ge=1)]
    """How many rates; a single one is `base` throughout."""


class DexpSchedule(Frozen):
    """The release's automatic schedule: a staircase for weights, another one for biases."""

    kind: Literal["dexp"] = "dexp"
    """Rates that fall in equal stairs."""
    weight: Staircase
    """Learning rate of all weights."""
    bias: Staircase
    """Learning rate of all biases."""


class Fall(Frozen):
    """A rate that falls from `base` to `base / factor` over the run."""

    base: Rate
    """The rate at the start."""
    factor: Annotated[float, Field(gt=0)]
    """The first rate over the last."""


class FallingSchedule(Frozen):
    """The release's other automatic schedules: a smooth fall for weights, another for biases."""

    kind: Literal["exp", "linear"]
    """Evenly in logarithm (`exp`), or in a straight line (`linear`)."""
    weight: Fall
    """Learning rate of all weights."""
    bias: Fall
    """Learning rate of all biases."""


class CosineSchedule(Frozen):
    """A linear ramp from 0 to the peak, then half a cosine down to the final rates.

    The very first step of a ramp has rate 0 and so moves nothing.
    """

    kind: Literal["cosine"] = "cosine"
    """Rates that ramp up and fall along a cosine."""
    weight_rate: Rate
    """Peak learning rate of all weights."""
    bias_rate: Rate
    """Peak learning rate of all biases."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the run that the ramp takes."""
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rates at the very end, over the peak."""


class PolynomialSchedule(Frozen):
    """A linear ramp to the peak, then `(1 - progress) ** power` of it; 0 at the end of the run.

    The fall counts from the start of the run, not of the fall: after a ramp it begins a little
    below the peak.

    Source:
        NVCaffe's `sgd_solver.cpp`, `GetLearningRate` with `rampup_interval` and policy `poly`.
    """

    kind: Literal["polynomial"] = "polynomial"
    """Rates that fall like a power of what is left of the run."""
    weight_rate: Rate
    """Peak learning rate of all weights."""
    bias_rate: Rate
    """Peak learning rate of all biases."""
    power: Annotated[float, Field(gt=0)] = 2.0
    """1 falls in a straight line."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the run that the ramp takes."""
    first_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rates at the start of the ramp, over the peak."""


class PlateauSchedule(Frozen):
    """Rates that drop when the training loss stalls, as was done by hand in 2012.

    Looked at is the mean training loss of each epoch: in 2012 it was the validation error, but
    what is judged at the end should not steer the training.
    """

    kind: Literal["plateau"] = "plateau"
    """Rates that drop when the loss stalls."""
    weight_rate: Rate
    """First learning rate of all weights."""
    bias_rate: Rate
    """First learning rate of all biases."""
    factor: Annotated[float, Field(gt=1)] = 10.0
    """A rate before a drop over the rate after it."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs in a row without improvement that make a drop."""
    min_improvement: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Least fall of the loss, over the best so far, that counts as improvement."""
    max_drops: Annotated[int, Field(ge=0)] = 3
    """Drops after which the rates stay."""


ScheduleSettings: TypeAlias = Annotated[
    PhasesSchedule
    | DexpSchedule
    | FallingSchedule
    | CosineSchedule
    | PolynomialSchedule
    | PlateauSchedule,
    Field(discriminator="kind"),
]
