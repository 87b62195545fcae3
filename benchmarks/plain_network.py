"""AlexNet of 2012 from torch's own modules: the same layers and numbers, written the usual way."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from alexnet.model.alexnet_2012 import AlexNet2012


class TowerNorm(nn.LocalResponseNorm):
    """torch's norm, within each tower: two towers are two images of half the maps."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (batch, channel, height, width)."""
        batch, channels, height, width = x.shape
        towers = x.reshape(2 * batch, channels // 2, height, width)
        return super().forward(towers).reshape(x.shape)


class SameMapNorm(nn.Module):
    """The norm within a map; torch has none, so its mean of squares is an average pool."""

    def __init__(self, size: int = 5, scale: float = 1e-3, power: float = 0.75) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(size, stride=1, padding=size // 2)
        self.scale = scale
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (batch, channel, height, width)."""
        return x * (1 + self.scale * self.pool(x * x)).pow(-self.power)


def plain_twin(network: AlexNet2012, dropout: float = 0.5) -> nn.Sequential:
    """Build the network that computes the same from the same weights, which it gets a copy of.

    Only dropout differs: torch's is drawn from its generator, and scaled in training instead of
    evaluation; so they agree in evaluation mode with dropout 0.
    """
    weights = network.state_dict()

    def conv(name: str, window: int, *, groups: int = 1, stride: int = 1) -> nn.Conv2d:
        outputs, inputs = weights[f"{name}.weight"].shape[:2]
        padding = 0 if stride > 1 else window // 2
        return nn.Conv2d(inputs * groups, outputs, window, stride, padding, groups=groups)

    def linear(name: str) -> nn.Linear:
        outputs, inputs = weights[f"{name}.weight"].shape
        return nn.Linear(inputs, outputs)

    layers: list[tuple[str, nn.Module]] = [
        ("overhang", nn.ZeroPad2d((0, network.overhang, 0, network.overhang))),
        ("conv1", conv("conv1", 11, stride=4)),
        ("norm1", _across_maps()),
        ("pool1", _pool()),
        ("relu1", nn.ReLU()),
        ("conv2", conv("conv2", 5, groups=2)),
        ("relu2", nn.ReLU()),
        ("norm2", _across_maps()),
        ("cnorm2", SameMapNorm()),
        ("pool2", _pool()),
        ("conv3", conv("conv3", 3)),
        ("relu3", nn.ReLU()),
        ("conv4", conv("conv4", 3, groups=2)),
        ("relu4", nn.ReLU()),
        ("conv5", conv("conv5", 3, groups=2)),
        ("pool5", _pool()),
        ("relu5", nn.ReLU()),
        ("flatten", nn.Flatten()),
        ("fc6", linear("fc6")),
        ("relu6", nn.ReLU()),
        ("dropout6", nn.Dropout(dropout)),
        ("fc7", linear("fc7")),
        ("relu7", nn.ReLU()),
        ("dropout7", nn.Dropout(dropout)),
        ("fc8", linear("fc8")),
    ]
    twin = nn.Sequential(OrderedDict(layers))
    twin.load_state_dict(weights)
    return twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch leaves it out


def _across_maps() -> TowerNorm:
    return TowerNorm(5, alpha=1e-4, beta=0.75, k=2.0)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
