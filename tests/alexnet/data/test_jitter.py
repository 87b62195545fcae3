from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from alexnet.counter_rng import draw_uniform
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.jitter import jitter_colors, jitter_keys
from alexnet.settings import ColorJitter

USUAL = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
STRONG = ColorJitter(brightness=2.0, contrast=0.8, saturation=3.0)


def pixels_of(n: int, height_px: int = 9, width_px: int = 7) -> Tensor:
    pixels = np.random.default_rng(4).integers(0, 256, (n, height_px, width_px, 3))
    return torch.from_numpy(pixels).float()


def keys_for(n: int, *, seed: int = 3, epoch: int = 1) -> npt.NDArray[np.uint64]:
    return jitter_keys(seed=seed, epoch=epoch, sample_ids=np.arange(n, dtype=np.int64))


def jittered(pixels: Tensor, settings: ColorJitter, **of: int) -> Tensor:
    return jitter_colors(pixels, keys_to_tensor(keys_for(len(pixels), **of)), settings)


def reference(
    image: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64], settings: ColorJitter
) -> npt.NDArray[np.float64]:
    """torchvision's `ColorJitter`, one change of one image after the other, in float64."""
    for change in np.argsort(uniform[:3]):
        strength = (settings.brightness, settings.contrast, settings.saturation)[change]
        low, high = max(0.0, 1 - strength), 1 + strength
        factor = low + uniform[3 + change] * (high - low)
        grey = image @ np.array([0.2989, 0.587, 0.114])
        other = (np.zeros(()), grey.mean(), grey[:, :, None])[change]
        image = np.clip(factor * image + (1 - factor) * other, 0, 255)
    return image


@pytest.mark.parametrize("settings", [USUAL, STRONG, ColorJitter(contrast=0.5)])
def test_it_is_what_the_definition_says(settings: ColorJitter) -> None:
    pixels = pixels_of(60)
    before = pixels.clone()
    found = jittered(pixels, settings)
    assert found.dtype == torch.float32
    assert torch.equal(pixels, before)
    uniform = draw_uniform(keys_for(60), 6)
    for row in range(60):
        expected = reference(pixels[row].numpy().astype(np.float64), uniform[row], settings)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_strength_moves_what_it_says_and_no_more(name: str) -> None:
    pixels = pixels_of(500)
    found = jittered(pixels, ColorJitter.model_validate({name: 0.25}))
    grey = torch.tensor([0.2989, 0.587, 0.114])
    before, after = pixels @ grey, found @ grey
    if name == "brightness":
        unclipped = (found < 255).all(dim=-1) & (pixels > 50).all(dim=-1)
        factors = (after / before)[unclipped]
        assert 0.75 <= float(factors.min()) < 0.77
        assert 1.23 < float(factors.max()) <= 1.2501
    elif name == "contrast":
        spread = after.std(dim=(1, 2)) / before.std(dim=(1, 2))
        assert 0.74 < float(spread.min()) < 0.78
        assert 1.15 < float(spread.max()) < 1.26  # what is clipped spreads less
    else:
        inside = ((found > 0) & (found < 255)).all(dim=-1)
        # The three shares add up to 0.9999.
        assert torch.allclose(after[inside], before[inside], rtol=0, atol=0.05)


def test_all_six_orders_are_drawn_equally_often() -> None:
    order = np.argsort(draw_uniform(keys_for(60_000), 6)[:, :3], axis=1)
    _, counts = np.unique(order, axis=0, return_counts=True)
    assert len(counts) == 6
    np.testing.assert_allclose(counts, 10_000, rtol=0.05)


def test_an_image_does_not_depend_on_its_batch() -> None:
    """To the bit: the mean over an image's pixels too."""
    pixels, keys = pixels_of(7, 40, 40), keys_to_tensor(keys_for(7))
    whole = jitter_colors(pixels, keys, USUAL)
    for start, stop in ((0, 1), (1, 7), (6, 7), (3, 3)):
        part = jitter_colors(pixels[start:stop], keys[start:stop], USUAL)
        assert torch.equal(part, whole[start:stop])


def test_epochs_and_seeds_jitter_differently() -> None:
    first = jittered(pixels_of(4), USUAL)
    assert not torch.equal(first, jittered(pixels_of(4), USUAL, epoch=2))
    assert not torch.equal(first, jittered(pixels_of(4), USUAL, seed=4))


@pytest.mark.parametrize("fields", [{}, {"contrast": 0.0}, {"brightness": -0.1}, {"hue": 0.1}])
def test_settings_that_change_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ColorJitter(**fields)
