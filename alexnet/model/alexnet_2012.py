"""AlexNet as the 2012 program trained it (net 145): two towers side by side in one network.

Where it differs from the paper's text, and from most reimplementations:

- 224 pixels, not 227: the last windows of conv1 overhang the image by three and see zeros;
- block 1 normalises the *signed* responses, pools, and only then applies the ReLU;
- block 2 has a second norm, within each map;
- no norm mixes the towers, and dropout does not rescale in training.
"""

from typing import Final

from torch import Tensor, nn, relu
from torch.nn import functional

from alexnet.model.dropout import KeyedDropout
from alexnet.model.errors import ModelError
from alexnet.model.init import InitRule, initialise
from alexnet.model.local_response_norm import LocalResponseNorm, SameMapNorm
from alexnet.model.sizes import ceil_windows, check_network_options, scaled_channels

SMALLEST_IMAGE: Final = 36
"""Image side in pixels; conv1 gives 8, the pools 4, 2 and 1."""


class AlexNet2012(nn.Module):
    """The two towers, as groups where they are apart; 60,965,224 parameters at full size.

    Weights are drawn from torch's global generator: seed it first.

    Args:
        num_classes: logits per image.
        image_size: side of the square images, in pixels; fc6 is built for it.
        width: scales maps and fully connected units; each tower's share becomes a whole
            multiple of 8, at least 8.
        dropout: share of fc6's and fc7's units dropped in training.
        init: see `alexnet.model.init.initialise`.

    Raises:
        ModelError: an option out of range.

    Source:
        `layers-145.cfg` and `layer-params-145.cfg` of the release (Computer History Museum).
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        width: float = 1.0,
        dropout: float = 0.5,
        init: InitRule = "release",
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

        def both(share: int) -> int:
            return 2 * scaled_channels(share, width)

        conv1_size = ceil_windows(image_size, window=11, stride=4)
        self.overhang = 4 * (conv1_size - 1) + 11 - image_size
        last_size = conv1_size
        for _ in range(3):
            last_size = ceil_windows(last_size, window=3, stride=2)

        self.conv1 = nn.Conv2d(3, both(48), 11, stride=4)
        self.conv2 = nn.Conv2d(both(48), both(128), 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(both(128), both(192), 3, padding=1)
        self.conv4 = nn.Conv2d(both(192), both(192), 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(both(192), both(128), 3, padding=1, groups=2)
        self.fc6 = nn.Linear(both(128) * last_size**2, both(2048))
        self.fc7 = nn.Linear(both(2048), both(2048))
        self.fc8 = nn.Linear(both(2048), num_classes)

        self.across_maps = LocalResponseNorm(towers=2)
        self.within_map = SameMapNorm()
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout6 = KeyedDropout(1 - dropout, stream=6)
        self.dropout7 = KeyedDropout(1 - dropout, stream=7)
        initialise(self, init)

    def forward(self, images: Tensor, sample_keys: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, num_classes).

        Args:
            images: (batch, 3, image_size, image_size) float32, RGB in 0..255 with the mean
                subtracted: conv1's zeros stand for the mean pixel.
            sample_keys: int64 (batch,); fixes the dropout masks, see `KeyedDropout`.

        Raises:
            ModelError: images of another shape.
        """
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ModelError(
                f"images have shape {tuple(images.shape)}",
                f"give (batch, 3, {self.image_size}, {self.image_size})",
            )
        # Shapes per image at full size.
        x = functional.pad(images, (0, self.overhang, 0, self.overhang))  # 3 x 227 x 227
        x = self.across_maps(self.conv1(x))  # 96 x 55 x 55
        x = relu(self.pool(x))  # 96 x 27 x 27
        x = self.across_maps(relu(self.conv2(x)))  # 256 x 27 x 27
        x = self.pool(self.within_map(x))  # 256 x 13 x 13
        x = relu(self.conv3(x))  # 384 x 13 x 13
        x = relu(self.conv4(x))  # 384 x 13 x 13
        x = relu(self.pool(self.conv5(x)))  # 256 x 6 x 6
        x = relu(self.fc6(x.flatten(1)))  # 4096
        x = relu(self.fc7(self.dropout6(x, sample_keys)))  # 4096
        logits: Tensor = self.fc8(self.dropout7(x, sample_keys))
        return logits
