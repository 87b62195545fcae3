"""AlexNet with batch normalisation in place of response normalisation, as large batches want it.

Convolution, batch norm, ReLU, pool: the norm stands before the ReLU and takes the convolution's
bias over. Two towers, as in 2012: conv2, conv4 and conv5 see their own half only.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn, relu
from torch.nn import functional

from alexnet.model.dropout import KeyedDropout
from alexnet.model.errors import ModelError
from alexnet.model.global_batch_norm import GlobalBatchNorm
from alexnet.model.sizes import ceil_windows, check_network_options, scaled_channels

BatchNormVariant = Literal["nvcaffe", "small-images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definition:
    """Where the variants differ."""

    kernel: int
    """Of the first convolution, as are stride and padding."""
    stride: int
    padding: int
    hidden: int
    """Units of fc6 and fc7 at full width."""
    conv5_bias: bool
    norms_hidden: bool
    """Whether fc6 and fc7 have norms of their own."""
    smallest: int
    """Image side in pixels below which a map vanishes."""


_DEFINITIONS: Final[dict[BatchNormVariant, _Definition]] = {
    "nvcaffe": _Definition(
        kernel=11,
        stride=4,
        padding=0,
        hidden=4096,
        conv5_bias=True,
        norms_hidden=False,
        smallest=39,
    ),
    "small-images": _Definition(
        kernel=7,
        stride=2,
        padding=3,
        hidden=2048,
        conv5_bias=False,
        norms_hidden=True,
        smallest=15,
    ),
}


class AlexNetBn(nn.Module):
    """The batch-norm AlexNet; 60,966,856 parameters at full size on 227 pixels.

    Weights are drawn from torch's global generator: seed it first.

    Args:
        num_classes: logits per image.
        image_size: side of the square images, in pixels; fc6 is built for it. The maps before it
            of images of another size are averaged, or repeated, to its own.
        width: scales maps and hidden units; each tower's share becomes a whole multiple of 8.
        dropout: share of fc6's and fc7's units dropped in training, the rest scaled up.
        variant: "nvcaffe" is the published one, made for 227 pixels. "small-images" is ours, for
            about 64 to 160 pixels: a first layer of 7 x 7 with stride 2, half the hidden units,
            norms there too, and He's initial weights.

    Raises:
        ModelError: an option out of range.

    Source:
        NVIDIA's Caffe, `models/alexnet_bn/train_val.prototxt` (layers and constants of the norms)
        and `train_val2.prototxt` (initial weights); He et al., arXiv 1502.01852.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        image_size: int = 227,
        width: float = 1.0,
        dropout: float = 0.5,
        variant: BatchNormVariant = "nvcaffe",
    ) -> None:
        super().__init__()
        if variant not in get_args(BatchNormVariant):
            known = ", ".join(get_args(BatchNormVariant))
            raise ModelError(f"variant is {variant!r}", f"give one of {known}")
        definition = _DEFINITIONS[variant]
        check_network_options(
            num_classes=num_classes,
            image_size=image_size,
            smallest=definition.smallest,
            width=width,
            dropout=dropout,
        )
        self.num_classes = num_classes
        self.image_size = image_size

        def both(share: int) -> int:
            return 2 * scaled_channels(share, width)

        hidden = scaled_channels(definition.hidden, width)
        norms_hidden = definition.norms_hidden
        self._smallest = definition.smallest
        self._last_size = last_size = _last_size(definition, image_size)

        self.conv1 = nn.Conv2d(
            3,
            both(48),
            definition.kernel,
            definition.stride,
            padding=definition.padding,
            bias=False,
        )
        self.conv2 = nn.Conv2d(both(48), both(128), 5, padding=2, groups=2, bias=False)
        self.conv3 = nn.Conv2d(both(128), both(192), 3, padding=1, bias=False)
        self.conv4 = nn.Conv2d(both(192), both(192), 3, padding=1, groups=2, bias=False)
        self.conv5 = nn.Conv2d(
            both(192), both(128), 3, padding=1, groups=2, bias=definition.conv5_bias
        )
        self.norm1 = GlobalBatchNorm(both(48))
        self.norm2 = GlobalBatchNorm(both(128))
        self.norm3 = GlobalBatchNorm(both(192))
        self.norm4 = GlobalBatchNorm(both(192))
        self.norm5 = GlobalBatchNorm(both(128))
        self.fc6 = nn.Linear(both(128) * last_size**2, hidden, bias=not norms_hidden)
        self.fc7 = nn.Linear(hidden, hidden, bias=not norms_hidden)
        self.fc8 = nn.Linear(hidden, num_classes)
        self.norm6 = GlobalBatchNorm(hidden) if norms_hidden else nn.Identity()
        self.norm7 = GlobalBatchNorm(hidden) if norms_hidden else nn.Identity()
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout6 = KeyedDropout(1 - dropout, stream=6, inverted=True)
        self.dropout7 = KeyedDropout(1 - dropout, stream=7, inverted=True)
        _START[variant](self)

    def forward(self, images: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, num_classes).

        Args:
            images: (batch, 3, height, width) float32, RGB, normalised by channel; image_size a
                side, or another size as `train.progressive` has it.
            sample_keys: int64 (batch,); fixes the dropout masks, see `KeyedDropout`.

        Raises:
            ModelError: images of another shape, or so small that a map vanishes.
        """
        smallest = self._smallest
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < smallest:
            raise ModelError(
                f"images have shape {tuple(images.shape)}",
                f"give (batch, 3, {self.image_size}, {self.image_size}), or sides of at least"
                f" {smallest}",
            )
        # Shapes per image at full size.
        x = self.pool(relu(self.norm1(self.conv1(images))))  # 96 x 27 x 27
        x = self.pool(relu(self.norm2(self.conv2(x))))  # 256 x 13 x 13
        x = relu(self.norm3(self.conv3(x)))  # 384 x 13 x 13
        x = relu(self.norm4(self.conv4(x)))  # 384 x 13 x 13
        x = self.pool(relu(self.norm5(self.conv5(x))))  # 256 x 6 x 6
        if x.shape[2:] != (self._last_size, self._last_size):
            x = functional.adaptive_avg_pool2d(x, self._last_size)
        x = self.dropout6(relu(self.norm6(self.fc6(x.flatten(1)))), sample_keys)  # 4096
        x = self.dropout7(relu(self.norm7(self.fc7(x))), sample_keys)  # 4096
        logits: Tensor = self.fc8(x)
        return logits


def _last_size(definition: _Definition, image_size: int) -> int:
    """Return the side of conv5's pooled maps; Caffe lets windows of pools overhang, no others."""
    size = (image_size + 2 * definition.padding - definition.kernel) // definition.stride + 1
    for _ in range(3):
        size = ceil_windows(size, window=3, stride=2)
    return size


@torch.no_grad()
def _start_as_nvcaffe(network: AlexNetBn) -> None:
    stds = {"fc6": 0.005, "fc7": 0.005}
    biases = {"conv5": 0.1, "fc6": 0.1, "fc7": 0.1, "fc8": 0.01}
    for name, layer in _layers(network):
        layer.weight.normal_(std=stds.get(name, 0.01))
        if layer.bias is not None:
            layer.bias.fill_(biases[name])


@torch.no_grad()
def _start_as_he(network: AlexNetBn) -> None:
    for name, layer in _layers(network):
        if name == "fc8":
            # Small logits at first: all classes alike.
            layer.weight.normal_(std=0.01)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            layer.bias.zero_()


def _layers(network: AlexNetBn) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    layers = network.named_children()
    return [(name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]


_START: Final = {"nvcaffe": _start_as_nvcaffe, "small-images": _start_as_he}
