"""What a recipe says about a network and its training; torch-free, so that reading one is quick."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from infra.commit import Frozen

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "tf32", "bf16"]


class NetworkSettings(Frozen):
    """A network of the family by name, and its size. The classes are the dataset's."""

    name: str = "alexnet-2012"
    """One of `alexnet.list_models()`."""
    width: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the maps and hidden units of every layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of hidden units silenced in training."""
    init: Literal["release", "fan-in", "fan-in-zero-bias"] | None = None
    """Start of the networks of 2012: as released (none); spread wider in narrow layers; so, and
    without the biases of one."""
    variant: Literal["nvcaffe", "small-images"] | None = None
    """Which alexnet-bn: the published one (none), or one for about 64 to 160 pixels."""

    def build(self, num_classes: int, image_size: int) -> "nn.Module":
        """Build the network with fresh weights from torch's global generator.

        Raises:
            ValueError: no such network, or an option it does not have, or the image is too small.
        """
        from alexnet.model import create_model

        options: dict[str, Any] = {"width": self.width, "dropout": self.dropout}
        own = {"init": self.init, "variant": self.variant}
        options |= {name: value for name, value in own.items() if value is not None}
        return create_model(self.name, num_classes=num_classes, image_size=image_size, **options)


class ResizedCrop(Frozen):
    """A part of the image, of random size, shape and place, scaled to the crop's side."""

    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Least share of the image's area; the most is all of it."""
    max_aspect: Annotated[float, Field(ge=1)] = 4 / 3
    """Greatest ratio of the part's longer to its shorter side."""


class ColorJitter(Frozen):
    """Random brightness, contrast and saturation: torchvision's `ColorJitter` without hue."""

    brightness: Annotated[float, Field(ge=0)] = 0.0
    """Factors on the pixels lie between 1 less this (0 at least) and 1 plus this; 0.4 is usual."""
    contrast: Annotated[float, Field(ge=0)] = 0.0
    """The same for the distance of pixels from the image's mean grey."""
    saturation: Annotated[float, Field(ge=0)] = 0.0
    """The same for the distance of pixels from their own grey."""

    @model_validator(mode="after")
    def _has_a_strength(self) -> "ColorJitter":
        if self.brightness == self.contrast == self.saturation == 0:
            raise ValueError("give brightness, contrast or saturation above 0")
        return self


class RandomErasing(Frozen):
    """A box of the image set to the mean; defaults are those of torchvision's `RandomErasing`."""

    probability: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the images of which a box is erased."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Least share of the image that is erased."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.33
    """Greatest share of the image that is erased; 0.4 in Zhong et al. 2017."""
    max_aspect: Annotated[float, Field(ge=1)] = 10 / 3
    """Greatest ratio of the box's longer to its shorter side."""

    @model_validator(mode="after")
    def _has_a_range(self) -> "RandomErasing":
        if self.min_area > self.max_area:
            raise ValueError("min_area is above max_area")
        return self


class AugmentSettings(Frozen):
    """What is done to an image before the network sees it."""

    crop_px: Annotated[int, Field(ge=1)] = 224
    """Side of the square that the network sees."""
    flip: bool = True
    """Mirror left to right with probability one half, in training."""
    color_noise: Annotated[float, Field(ge=0)] = 0.1
    """Colour noise in training, in standard deviations of the pixels along each principal axis."""
    crop_sharing: Annotated[int, Field(ge=1)] = 1
    """How many neighbours of the global batch share a crop and a flip; 32 in the release."""
    resized_crop: ResizedCrop | None = None
    """Train on random parts scaled to crop_px; none cuts crop_px as it is, as in 2012."""
    jitter: ColorJitter | None = None
    """Random brightness, contrast and saturation in training; none in 2012."""
    erase: RandomErasing | None = None
    """Erase a box of some images in training; none in 2012."""
    view_px: Annotated[int, Field(ge=1)] | None = None
    """Side to which stored images are scaled before test views are cut; none leaves them."""
    normalise: Literal["mean-image", "channels"] = "mean-image"
    """Subtract the mean image; or standardise by channel, as torchvision's network expects."""
    statistics: Literal["dataset", "ilsvrc-2012", "torchvision"] = "dataset"
    """Whose mean, deviations and colour axes: the training images'; or those published, for small
    datasets, the mean of all 256 x 256 pixels for every crop_px; or those that torchvision's
    weights were trained with."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the normalised pixels; 1/256 in NVIDIA's Caffe."""


class MixingSettings(Frozen):
    """Training on blends of two images of the batch, and of their labels."""

    mixup: Annotated[float, Field(gt=0)] | None = None
    """Alpha of the Beta distribution of an image's share, both images seen through each other."""
    cutmix: Annotated[float, Field(gt=0)] | None = None
    """Alpha of the Beta distribution of the area an image keeps, a part of the other pasted in."""
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the pairs that is blended; of those each way half, where both are given."""

    @model_validator(mode="after")
    def _has_a_way(self) -> "MixingSettings":
        if self.mixup is None and self.cutmix is None:
            raise ValueError("give mixup, cutmix or both")
        return self


class ProgressiveSize(Frozen):
    """Training on small images first: the input grows from epoch to epoch."""

    first_px: Annotated[int, Field(ge=1)]
    """Side of the input in the first epoch."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Part of the epochs after which the input has its full size."""
    multiple_px: Annotated[int, Field(ge=1)] = 16
    """Sides between the first and the full one are multiples of this."""

    def side_at(self, *, epoch: int, epochs: int, crop_px: int) -> int:
        """Return the input's side in one epoch, counted from 0: in a line, rounded down."""
        grown = min(epoch / (self.until * epochs), 1.0)
        if grown == 1.0:
            return crop_px
        side = self.first_px + grown * (crop_px - self.first_px)
        return max(int(side) // self.multiple_px * self.multiple_px, self.first_px)


class OptimizerSettings(Frozen):
    """What the update rule needs besides the rates, which are the schedule's."""

    kind: Literal["sgd-2012", "sgd", "adamw"] = "sgd-2012"
    """The rule: with the rate inside the velocity, as in 2012; or torch's SGD or AdamW."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Part of the velocity that is left after a step; AdamW's first beta."""
    second_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's second beta, of the mean square of the gradient."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's, beside the root of that mean square."""
    nesterov: bool = False
    """Look ahead along the velocity, as Nesterov does; not so in 2012."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0005
    """Multiplies the rate and the weight; biases and scales of norms are not decayed. To be given
    for adamw, beside whose gradient it stands."""
    layer_decay: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Weight decay of layers that have their own, by name."""
    decay_all: bool = False
    """Decay biases and scales of norms too, as Caffe's files do; not so in 2012."""
    lars_trust: Annotated[float, Field(gt=0)] | None = None
    """LARS: a tensor's rate is the schedule's times this times |w| / (|g| + decay |w|)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale the gradient of all layers down to this norm where it is longer; none leaves it."""

    @model_validator(mode="after")
    def _the_rule_knows_what_is_set(self) -> "OptimizerSettings":
        if self.kind != "sgd-2012" and self.lars_trust is not None:
            raise ValueError(f"lars_trust needs kind sgd-2012: {self.kind} has no LARS")
        if self.kind == "adamw" and self.nesterov:
            raise ValueError("nesterov needs kind sgd-2012 or sgd: adamw does not look ahead")
        if self.kind == "adamw" and "weight_decay" not in self.model_fields_set:
            # It stands beside Adam's step, not in the gradient: the default would do nothing.
            raise ValueError("adamw needs a weight_decay of its own, 0.05 say: 0.0005 is for sgd")
        if self.kind == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.kind != "adamw":
            for name in ("second_momentum", "epsilon"):
                if getattr(self, name) != OptimizerSettings.model_fields[name].default:
                    raise ValueError(f"{name} needs kind adamw: {self.kind} has none")
        return self


class WorkerRange(Frozen):
    """As many workers as the cluster holds, between two bounds."""

    min: Annotated[int, Field(ge=1)]
    """Fewer and the run is refused."""
    max: Annotated[int, Field(ge=1)]
    """More are never used."""
