"""From stored pixels to the network's input, on the device; no image sees another.

Here images cross from NHWC uint8 RGB to NCHW float32. In training, in this order: mirror, colour
jitter, mean, colour noise, normalisation, erasing. Before it comes the crop (`cuts`), after it the
size of a progressive training and the blends of two images (`train.mixing`).
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from alexnet.counter_rng_torch import draw_normal
from alexnet.data.erasing import erase
from alexnet.data.image_draws import ImageDraws
from alexnet.data.input_statistics import Floats, InputStatistics
from alexnet.data.jitter import jitter_colors
from alexnet.settings import AugmentSettings
from infra.errors import RecipeError


class Augment:
    """Turns batches of cropped images into the network's input, on one device.

    Args:
        settings: which normalisation; how strong colour noise is by default, and what else there
            is in training.
        statistics: of the dataset the network is trained on, also when it sees others; only their
            image size counts where the settings ask for the published ones.
        device: where the batches are.

    Raises:
        RecipeError: the crop is larger than the stored images.

    Source:
        The release's `convdata_jpeg.py`, lines 155-179 and 238-246.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        statistics: InputStatistics,
        device: torch.device | str = "cpu",
    ) -> None:
        if settings.statistics == "ilsvrc-2012":
            statistics = InputStatistics.of_ilsvrc_2012(*statistics.mean_image.shape[:2])
        elif settings.statistics == "torchvision":
            statistics = InputStatistics.of_torchvision(*statistics.mean_image.shape[:2])
        self._color_noise = settings.color_noise
        self._jitter, self._erase = settings.jitter, settings.erase
        self._view_px = settings.view_px
        self._scale = settings.scale
        # The central part for every crop, wherever it was taken, and never mirrored: so in 2012.
        mean = _central(statistics.mean_image, settings.crop_px)
        std = None
        if settings.normalise == "channels":
            # Both in 0..255, so that scaling to [0, 1] first would cancel out.
            mean, std = statistics.channel_mean, statistics.channel_std
        axes = statistics.color_eigenvectors * statistics.color_stds
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self._std = None if std is None else torch.tensor(std, dtype=torch.float32, device=device)
        self._color_axes = torch.tensor(axes, dtype=torch.float32, device=device)

    def training_inputs(
        self, images: Tensor, draws: ImageDraws, *, color_noise: float | None = None
    ) -> Tensor:
        """Mirror, jitter colours, subtract the mean, add colour noise, normalise, erase.

        With c > 0 an image becomes (image + c * noise) / (1 + c), the noise one RGB value for
        all its pixels: so the whole input is 1.1 times smaller in training, and grows when the
        noise is switched off. With c = 0 nothing is drawn or divided.

        Args:
            images: (n, crop, crop, 3) uint8, n may be 0.
            draws: of these images; what it lacks is not done to them.
            color_noise: c of the schedule's phase; none is the settings' own.

        Returns:
            (n, 3, crop, crop) float32, channels last in memory.
        """
        if draws.flips is not None:
            images = torch.where(draws.flips[:, None, None, None], images.flip(2), images)
        c = self._color_noise if color_noise is None else color_noise
        if self._jitter is not None and draws.jitter is not None:
            images = jitter_colors(images.float(), draws.jitter, self._jitter)
        pixels = images - self._mean
        if c > 0:
            # A sum, not a matrix product: that may run in TF32.
            noise = (draw_normal(draws.noise, 3)[:, None, :] * self._color_axes).sum(dim=2)
            pixels.add_(noise[:, None, None, :], alpha=c).div_(1 + c)
        inputs = self._to_nchw(pixels)
        if self._erase is not None and draws.erasing is not None:
            erase(inputs, draws.erasing, self._erase)
        return inputs

    def to_view_size(self, images: Tensor) -> Tensor:
        """Scale stored images for the test views, if the settings say so.

        Args:
            images: (n, height, width, 3) uint8.

        Returns:
            (n, view_px, view_px, 3) uint8, by antialiased bilinear interpolation; or the same.
        """
        if self._view_px is None:
            return images
        scaled = interpolate(
            images.permute(0, 3, 1, 2).float(),
            size=(self._view_px, self._view_px),
            mode="bilinear",
            antialias=True,
        )
        return scaled.round_().to(torch.uint8).permute(0, 2, 3, 1)

    def evaluation_inputs(self, images: Tensor) -> Tensor:
        """Subtract the mean, and nothing random: (n, crop, crop, 3) uint8 to NCHW float32."""
        return self._to_nchw(images - self._mean)

    def _to_nchw(self, pixels: Tensor) -> Tensor:
        if self._std is not None:
            pixels.div_(self._std)
        if self._scale != 1:
            pixels.mul_(self._scale)
        return pixels.permute(0, 3, 1, 2)


def center_view(images: Tensor, crop_px: int) -> Tensor:
    """Cut the central crop out of stored images: (n, height, width, 3) uint8, a view.

    Raises:
        RecipeError: the crop is larger than the stored images.
    """
    margin_y, margin_x = _margins(tuple(images.shape[1:3]), crop_px)
    return _cut(images, margin_y // 2, margin_x // 2, crop_px)


def ten_views(images: Tensor, crop_px: int) -> list[Tensor]:
    """Cut the ten views of the multi-view test, each (n, crop, crop, 3) uint8.

    Upper left, upper right, centre, lower left, lower right, then their mirror images in the
    same order. The network's probabilities are averaged over them, not its logits.

    Args:
        images: stored ones, (n, height, width, 3) uint8.
        crop_px: side of a view.

    Raises:
        RecipeError: the crop is larger than the stored images.
    """
    y, x = _margins(tuple(images.shape[1:3]), crop_px)
    offsets = [(0, 0), (0, x), (y // 2, x // 2), (y, 0), (y, x)]
    plain = [_cut(images, top, left, crop_px) for top, left in offsets]
    return plain + [view.flip(2) for view in plain]


def nine_views(images: Tensor, crop_px: int) -> list[Tensor]:
    """Cut the nine views of CIFAR-10's test, each (n, crop, crop, 3) uint8.

    A grid of three by three, row by row, that reaches from edge to edge; nothing is mirrored. Crops
    of 24 out of 32 begin at 0, 4 and 8. Probabilities are averaged, as of `ten_views`.

    Raises:
        RecipeError: the crop is larger than the stored images.

    Source: the release's `convdata_cifar.py`, the cropped provider's `multiview_test`.
    """
    y, x = _margins(tuple(images.shape[1:3]), crop_px)
    return [_cut(images, top, left, crop_px) for top in (0, y // 2, y) for left in (0, x // 2, x)]


def _central(mean_image: Floats, crop_px: int) -> Floats:
    margin_y, margin_x = _margins(mean_image.shape[:2], crop_px)
    top, left = margin_y // 2, margin_x // 2
    return mean_image[top : top + crop_px, left : left + crop_px]


def _cut(images: Tensor, top: int, left: int, crop_px: int) -> Tensor:
    return images[:, top : top + crop_px, left : left + crop_px]


def _margins(stored_px: tuple[int, ...], crop_px: int) -> tuple[int, int]:
    height_px, width_px = stored_px
    if crop_px > min(stored_px):
        raise RecipeError(
            f"a crop of {crop_px} px does not fit into stored images of {stored_px} px",
            remedy="lower augment.crop_px, or store larger images",
        )
    return height_px - crop_px, width_px - crop_px
