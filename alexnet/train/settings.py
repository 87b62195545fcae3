"""What a recipe says about training, checkpoints and the workers; torch-free."""

from typing import Annotated, Literal

from pydantic import Field

from alexnet.settings import (
    AugmentSettings,
    MixingSettings,
    OptimizerSettings,
    Precision,
    ProgressiveSize,
    WorkerRange,
)
from alexnet.train.schedule_settings import ScheduleSettings
from infra.commit import Frozen


class TrainSettings(Frozen):
    """What is learned from, in which order, by which rule. All but the last two decide results."""

    epochs: Annotated[int, Field(ge=1)] = 90
    """Passes over the train split."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Keys the initial weights, the order, and everything random about a sample."""
    global_batch: Annotated[int, Field(ge=1)] = 128
    """Images of an update, all workers together; fixed for a run."""
    order: Literal["reshuffled", "fixed"] = "reshuffled"
    """Another order every epoch, or one order for all, as the 2012 program did."""
    precision: Precision = "fp32"
    """Of the forward and backward pass: tf32 rounds the factors of products and convolutions, on
    GPUs that can; bf16 runs in bfloat16. Weights and updates are always fp32."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over all classes."""
    augment: AugmentSettings = AugmentSettings()
    """What is done to an image before the network sees it."""
    mixing: MixingSettings | None = None
    """Blends of two images and their labels; none trains on images as they are."""
    progressive: ProgressiveSize | None = None
    """Small inputs first, for networks that take any size; none has crop_px throughout."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """The update rule."""
    schedule: ScheduleSettings
    """The learning rates, and when they change."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Also keep an exponential average of the weights, and evaluate that; 0.999, say."""
    log_every_steps: Annotated[int, Field(ge=1)] = 20
    """Steps between two points of a curve."""
    sample_log: Annotated[str, Field(min_length=1)] | None = None
    """Directory or URI under which every sample of every step is recorded; none records nothing."""


class CheckpointSettings(Frozen):
    """When all state is saved. The end of a run always is."""

    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Save after every so many updates, counted from the run's start."""
    every_epochs: Annotated[int, Field(ge=1)] | None = 1
    """Save at the end of every so many epochs."""
    keep_last: Annotated[int, Field(ge=2)] = 2
    """How many complete checkpoints are kept. At least two: restarted workers may be resuming from
    the last but one while workers of the earlier attempt still finish the newest."""


class ScalingSettings(Frozen):
    """How many workers train, and how; in no key, for it changes no result but rounding."""

    workers: Annotated[int, Field(ge=1)] | WorkerRange = 1
    """Ray Train workers: one a GPU, else shares of the CPUs; or `{min, max}`."""
    microbatch: Annotated[int, Field(ge=1)] | None = None
    """Most images that a worker puts through the network at once; none: its whole share.
    Gradients add up over the pieces, so only memory and rounding change."""
    compile: bool = False
    """Let torch.compile make the network faster; checked at every start, which takes a minute."""
    gpu: Literal["auto", "required", "optional"] = "auto"
    """auto: GPUs where there are any, and a training that began on GPUs does not go on without
    them; required: never without GPUs; optional: whatever each start finds."""
    max_failures: Annotated[int, Field(ge=0)] = 8
    """How often the group of workers is started again before the run fails. Failures count anew
    once a checkpoint was written, so that weeks of training get over a lost worker now and then."""
