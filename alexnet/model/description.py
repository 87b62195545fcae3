"""A network as a table of layers: what each is, how large its output, and its module in torch."""

from dataclasses import dataclass
from itertools import count
from typing import Final, Literal, NamedTuple

from torch import nn

from alexnet.model.dropout import KeyedDropout
from alexnet.model.global_batch_norm import GlobalBatchNorm
from alexnet.model.local_response_norm import LocalResponseNorm, SameMapNorm
from alexnet.model.own_layers import LocallyConnected, OverhangConv2d, TowerLinear
from alexnet.model.sizes import ceil_windows, scaled_channels

Sees = Literal["own", "all"]
"""Whether a tower's unit is connected to the maps of its own tower or of all."""


class Shape(NamedTuple):
    """Of one image's activations."""

    maps: int
    side: int
    """In pixels; 1 once flattened."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The size that a description is built at."""

    towers: int
    num_classes: int
    width: float
    dropout: float

    def across_towers(self, share: int) -> int:
        """Return the maps or units of all towers, of one tower's share at full width."""
        return self.towers * scaled_channels(share, self.width)


class Layer:
    """A line of the table; by default one that leaves shapes as they are."""

    __slots__ = ()

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Return the shape of the output; a side below 1 where the map vanishes."""
        return shape

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build the module for inputs of this shape."""
        raise NotImplementedError


class WeightLayer(Layer):
    """A layer that learns; begins as `std` times a normal draw, with one value for its biases."""

    __slots__ = ()
    name: str
    std: float
    bias: float

    def fan_in(self, shape: Shape, plan: Plan) -> int:
        """Count the inputs of one unit."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Conv(WeightLayer):
    """A convolution, `maps` of it in each tower."""

    name: str
    maps: int
    window: int
    stride: int = 1
    padding: int = 0
    std: float = 0.01
    bias: float = 0.0
    sees: Sees = "own"
    overhang: bool = True
    """Whether a last window that does not fit sees zeros; else it is left out."""

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Count windows as the release does, or as most programs do."""
        padded = shape.side + 2 * self.padding
        if self.overhang:
            side = ceil_windows(padded, self.window, self.stride)
        else:
            side = (padded - self.window) // self.stride + 1
        return Shape(plan.across_towers(self.maps), side)

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it with torch's own start."""
        kind = OverhangConv2d if self.overhang and self.stride > 1 else nn.Conv2d
        return kind(
            shape.maps,
            plan.across_towers(self.maps),
            self.window,
            stride=self.stride,
            padding=self.padding,
            groups=self._groups(plan),
        )

    def fan_in(self, shape: Shape, plan: Plan) -> int:
        """Count a window's pixels in the maps that a unit sees."""
        return shape.maps // self._groups(plan) * self.window**2

    def _groups(self, plan: Plan) -> int:
        return plan.towers if self.sees == "own" else 1


@dataclass(frozen=True, slots=True)
class Local(WeightLayer):
    """Locally connected: a convolution whose weights and biases differ from place to place."""

    name: str
    maps: int
    window: int
    padding: int = 0
    std: float = 0.01
    bias: float = 0.0

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Count windows, stride 1."""
        return Shape(plan.across_towers(self.maps), shape.side + 2 * self.padding - self.window + 1)

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it, zeros so far."""
        maps = plan.across_towers(self.maps)
        return LocallyConnected(shape.maps, maps, shape.side, self.window, self.padding)

    def fan_in(self, shape: Shape, plan: Plan) -> int:
        """Count a window's pixels in all maps."""
        return shape.maps * self.window**2


@dataclass(frozen=True, slots=True)
class Full(WeightLayer):
    """Fully connected, `units` in each tower; the last layer has one for each class instead."""

    name: str
    units: int | None = None
    std: float = 0.01
    bias: float = 0.0
    sees: Sees = "all"

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Return all towers' units, or the classes."""
        return Shape(plan.num_classes if self.units is None else plan.across_towers(self.units), 1)

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it, apart where each tower sees its own."""
        units = self.out(shape, plan).maps
        if self.sees == "own":
            return TowerLinear(shape.maps, units, plan.towers)
        return nn.Linear(shape.maps, units)

    def fan_in(self, shape: Shape, plan: Plan) -> int:
        """Count the inputs a unit sees."""
        return shape.maps // (plan.towers if self.sees == "own" else 1)


@dataclass(frozen=True, slots=True)
class Across(Layer):
    """The norm across neighbouring maps, within each tower: `alexnet.model.local_response_norm`."""

    size: int = 5
    scale: float = 1e-4
    constant: float = 2.0

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it, without weights."""
        return LocalResponseNorm(self.size, self.scale, constant=self.constant, towers=plan.towers)


@dataclass(frozen=True, slots=True)
class Within(Layer):
    """The norm within each map: `alexnet.model.same_map_norm`."""

    size: int = 5
    scale: float = 1e-3

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it, without weights."""
        return SameMapNorm(self.size, self.scale)


@dataclass(frozen=True, slots=True)
class PlainBatchNorm(Layer):
    """Batch norm without scale and shift."""

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it, with nothing to learn."""
        return GlobalBatchNorm(shape.maps, learns=False)


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """Maximum or mean over windows clipped to the image; a mean counts only what is inside."""

    kind: Literal["max", "avg"] = "max"
    size: int = 3
    stride: int = 2

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Count windows, the last of which may overhang."""
        return Shape(shape.maps, ceil_windows(shape.side, self.size, self.stride))

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build torch's own: without padding its mean divides by what is inside."""
        pool = nn.MaxPool2d if self.kind == "max" else nn.AvgPool2d
        return pool(self.size, stride=self.stride, ceil_mode=True)


@dataclass(frozen=True, slots=True)
class Relu(Layer):
    """Negative values become 0."""

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build torch's own."""
        return nn.ReLU()


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """Maps become units, in the order (map, y, x)."""

    def out(self, shape: Shape, plan: Plan) -> Shape:
        """Return the count of activations."""
        return Shape(shape.maps * shape.side**2, 1)

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build torch's own."""
        return nn.Flatten()


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """`alexnet.model.KeyedDropout`, in the convention of 2012 or inverted."""

    stream: int
    inverted: bool = False

    def build(self, shape: Shape, plan: Plan) -> nn.Module:
        """Build it with the plan's share to drop."""
        return KeyedDropout(1 - plan.dropout, self.stream, inverted=self.inverted)


@dataclass(frozen=True, slots=True)
class Description:
    """A network: its layers in the order of execution."""

    layers: tuple[Layer, ...]
    towers: int = 1
    image_size: int = 224
    """Side in pixels of the images that it was made for."""

    @property
    def drops_out(self) -> bool:
        """Whether there is dropout anywhere."""
        return any(isinstance(layer, Dropout) for layer in self.layers)

    def named_inputs(self, image_size: int, plan: Plan) -> list[tuple[str, Layer, Shape]]:
        """Return each layer's name and the shape of its input.

        A layer without weights is named after the last that has some, and its own kind:
        `conv2_within`.
        """
        shape, above, found = Shape(3, image_size), "images", []
        for layer in self.layers:
            if isinstance(layer, WeightLayer):
                above = name = layer.name
            else:
                name = f"{above}_{type(layer).__name__.lower()}"
            found.append((name, layer, shape))
            shape = layer.out(shape, plan)
        return found

    def smallest_image(self) -> int:
        """Return the side in pixels below which a map vanishes."""
        return next(size for size in count(1) if self._keeps_its_maps(size))

    def _keeps_its_maps(self, image_size: int) -> bool:
        inputs = self.named_inputs(image_size, _FULL_SIZE)
        return all(shape.side > 0 for _, _, shape in inputs)


_FULL_SIZE: Final = Plan(towers=1, num_classes=1, width=1.0, dropout=0.0)
"""Sides do not depend on it."""
