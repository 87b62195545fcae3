from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.batches import Batch, Rows
from alexnet.data.crops import draw_flips, draw_shared_flips
from alexnet.data.erasing import erasing_keys
from alexnet.data.image_draws import ImageDraws, color_noise_keys, draw_images
from alexnet.data.jitter import jitter_keys
from alexnet.settings import AugmentSettings, ColorJitter, RandomErasing

CPU = torch.device("cpu")
IDS = np.array([7, 3, 12, 5], dtype=np.int64)
EVERYTHING = AugmentSettings(jitter=ColorJitter(contrast=0.4), erase=RandomErasing())


def drawn(settings: AugmentSettings) -> ImageDraws:
    """Of four images, the last ones of a batch of twelve."""
    count = len(IDS)
    images, positions = np.empty((count, 2, 2, 3), np.uint8), np.arange(8, 8 + count)
    rows = Rows(images, np.zeros(count, np.int64), IDS, positions, np.full(count, 40))
    batch = Batch(rows, epoch=3, step=40, batch_rows=12)
    return draw_images(batch, settings, seed=11, device=CPU)


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({"flip": False}, {"noise"}),
        ({}, {"noise", "flips"}),
        ({"jitter": ColorJitter(contrast=0.4)}, {"noise", "flips", "jitter"}),
        ({"erase": RandomErasing()}, {"noise", "flips", "erasing"}),
        # A phase of the schedule may switch it on.
        ({"flip": False, "color_noise": 0.0}, {"noise"}),
    ],
)
def test_only_what_is_used_is_drawn(settings: dict[str, Any], there: set[str]) -> None:
    draws = drawn(AugmentSettings(**settings))
    assert {f.name for f in fields(draws) if getattr(draws, f.name) is not None} == there


def test_every_draw_is_keyed_by_its_purpose_and_the_image() -> None:
    draws, of = drawn(EVERYTHING), {"seed": 11, "epoch": 3, "sample_ids": IDS}
    assert draws.flips is not None
    assert draws.flips.tolist() == draw_flips(seed=11, epoch=3, sample_ids=IDS).tolist()
    keys = {
        "noise": color_noise_keys(**of),  # type: ignore[arg-type]  # the three of all
        "jitter": jitter_keys(**of),  # type: ignore[arg-type]
        "erasing": erasing_keys(**of),  # type: ignore[arg-type]
    }
    for name, expected in keys.items():
        assert torch.equal(getattr(draws, name), keys_to_tensor(expected)), name


def test_neighbours_that_share_a_crop_share_the_flip() -> None:
    draws = drawn(AugmentSettings(crop_sharing=2))
    positions = np.arange(8, 12)
    expected = draw_shared_flips(seed=11, step=40, positions=positions, sharing=2)
    assert draws.flips is not None
    assert draws.flips.tolist() == expected.tolist()
