"""AlexNet as torchvision has it: one tower, no norms, dropout before fc6 and fc7.

State-dict names and shapes are torchvision's, so that its weights load.
"""

from typing import Final

from torch import Tensor, nn

from alexnet.model.dropout import KeyedDropout
from alexnet.model.sizes import check_network_options, scaled_channels

SMALLEST_IMAGE: Final = 63
"""Image side in pixels; conv1 gives 15, the pools 7, 3 and 1."""


class AlexNetTorchvision(nn.Module):
    """torchvision's `alexnet`; 61,100,840 parameters at full size.

    Weights start from torch's defaults, drawn from its global generator: seed it first.

    Args:
        num_classes: logits per image.
        image_size: side of the square images, in pixels. Declared and checked against the
            smallest that works; the average pool before fc6 takes any.
        width: scales maps and fully connected units, each to a whole multiple of 8, at least 8.
        dropout: share of fc6's and fc7's inputs dropped in training, the rest scaled up.

    Raises:
        ModelError: an option out of range.

    Source:
        `torchvision/models/alexnet.py`; the one-tower network of arXiv 1404.5997.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_network_options(
            num_classes=num_classes,
            image_size=image_size,
            smallest=SMALLEST_IMAGE,
            width=width,
            dropout=dropout,
        )
        self.num_classes = num_classes
        self.image_size = image_size
        c1, c2, c3, c4, c5, fc = (
            scaled_channels(full, width) for full in (64, 192, 384, 256, 256, 4096)
        )
        self.features = nn.Sequential(
            nn.Conv2d(3, c1, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c1, c2, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c2, c3, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c3, c4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c4, c5, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            KeyedDropout(1 - dropout, stream=6, inverted=True),
            nn.Linear(c5 * 6 * 6, fc),
            nn.ReLU(inplace=True),
            KeyedDropout(1 - dropout, stream=7, inverted=True),
            nn.Linear(fc, fc),
            nn.ReLU(inplace=True),
            nn.Linear(fc, num_classes),
        )

    def forward(self, images: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, num_classes).

        Args:
            images: (batch, 3, height, width) float32, RGB, normalised by torchvision's mean and
                standard deviation; at least 63 pixels a side.
            sample_keys: int64 (batch,); fixes the dropout masks, see `KeyedDropout`.
        """
        x: Tensor = self.avgpool(self.features(images)).flatten(1)
        for layer in self.classifier:
            x = layer(x, sample_keys) if isinstance(layer, KeyedDropout) else layer(x)
        return x
