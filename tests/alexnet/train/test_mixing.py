from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from alexnet.data.order import share_bounds
from alexnet.settings import MixingSettings
from alexnet.train.mixing import Blend, blend_images, blend_labels, draw_blend

SIDE_PX = 24
BOTH = MixingSettings(mixup=0.2, cutmix=1.0)
WAYS = [MixingSettings(mixup=0.4), MixingSettings(cutmix=1.0), BOTH]


def drawn(settings: MixingSettings, *, rows: int = 64, step: int = 3, seed: int = 1) -> Blend:
    positions = np.arange(rows)
    return draw_blend(settings, seed=seed, step=step, positions=positions, side_px=SIDE_PX)


def images_of(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3, SIDE_PX, SIDE_PX, generator=generator)


@pytest.mark.parametrize("settings", WAYS)
def test_blended_images_are_what_the_definition_says(settings: MixingSettings) -> None:
    """Against one pixel after the other, and the label's share against the pixels' mean share."""
    blend, images = drawn(settings, rows=32), images_of(32)
    blended = blend_images(images, blend)
    for row in range(32):
        own, other = images[row], images[row ^ 1]
        top, left, height, width = blend.boxes[row]
        own_share = np.full((SIDE_PX, SIDE_PX), blend.pixel_shares[row])
        own_share[top : top + height, left : left + width] = 0
        share = torch.from_numpy(own_share).float()
        assert torch.allclose(blended[row], share * own + (1 - share) * other, atol=1e-6)
        assert own_share.mean() == pytest.approx(blend.label_shares[row])


@pytest.mark.parametrize("settings", WAYS)
def test_a_pair_is_blended_alike_and_only_with_itself(settings: MixingSettings) -> None:
    blend = drawn(settings)
    np.testing.assert_array_equal(blend.partners, np.arange(64) ^ 1)
    for name in ("pixel_shares", "boxes", "label_shares"):
        values = getattr(blend, name)
        np.testing.assert_array_equal(values[::2], values[1::2])


@pytest.mark.parametrize("settings", WAYS)
@pytest.mark.parametrize("rows", [1, 19, 64])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_what_becomes_of_a_row_does_not_depend_on_the_ranks(
    settings: MixingSettings, rows: int, ranks: int
) -> None:
    whole, images = drawn(settings, rows=rows), images_of(rows)
    labels = torch.arange(rows)
    expected = blend_images(images, whole)
    for rank in range(ranks):
        start, stop = share_bounds(rows, rank, ranks)
        positions = np.arange(start, stop)
        blend = draw_blend(settings, seed=1, step=3, positions=positions, side_px=SIDE_PX)
        assert torch.equal(blend_images(images[start:stop], blend), expected[start:stop])
        blended = blend_labels(labels[start:stop], blend)
        assert blended.others.tolist() == whole.partners[start:stop].tolist()
        assert torch.equal(blended.shares, blend_labels(labels, whole).shares[start:stop])


def test_the_odd_last_row_stays_as_it_is() -> None:
    blend = drawn(BOTH, rows=5)
    assert blend.partners[4] == 4
    assert torch.equal(blend_images(images_of(5), blend)[4], images_of(5)[4])
    assert blend.label_shares[4] == 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixups_shares_follow_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), of 20,000 pairs."""
    shares = drawn(MixingSettings(mixup=alpha), rows=40_000).label_shares[::2]
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_cutmixs_boxes_lie_inside_anywhere_and_of_any_size() -> None:
    boxes = drawn(MixingSettings(cutmix=1.0), rows=40_000).boxes[::2]
    top, left, height, width = boxes.T
    assert top.min() == left.min() == height.min() == 0
    assert (top + height).max() == (left + width).max() == height.max() == SIDE_PX
    # Shares are uniform, so the area that is pasted in has a mean of one half.
    assert (height * width).mean() / SIDE_PX**2 == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_a_share_of_the_pairs_is_blended_half_of_it_each_way(probability: float) -> None:
    settings = BOTH.model_copy(update={"probability": probability})
    blend = drawn(settings, rows=40_000)
    cut, mixed = blend.boxes[:, 2] > 0, blend.pixel_shares < 1
    assert not (cut & mixed).any()
    # Some boxes are rounded away, some of mixup's shares to 1.
    assert cut.mean() == pytest.approx(probability / 2, abs=0.01)
    assert mixed.mean() == pytest.approx(probability / 2, abs=0.01)


def test_steps_and_seeds_blend_differently() -> None:
    first = drawn(BOTH).label_shares
    assert not np.array_equal(first, drawn(BOTH, step=4).label_shares)
    assert not np.array_equal(first, drawn(BOTH, seed=2).label_shares)


def test_nothing_is_blended_of_nothing() -> None:
    blend = draw_blend(BOTH, seed=1, step=3, positions=np.arange(0), side_px=SIDE_PX)
    assert blend_images(images_of(0), blend).shape == (0, 3, SIDE_PX, SIDE_PX)


@pytest.mark.parametrize("fields", [{}, {"mixup": 0.0}, {"cutmix": 1.0, "probability": 0.0}])
def test_settings_that_blend_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MixingSettings(**fields)
