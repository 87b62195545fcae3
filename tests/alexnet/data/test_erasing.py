from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from alexnet.counter_rng import draw_uniform
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.erasing import draw_boxes, erase, erasing_keys
from alexnet.settings import RandomErasing

SIDE_PX = 24
USUAL = RandomErasing()
EVERY = RandomErasing(probability=1.0)


def keys_for(n: int, *, seed: int = 3, epoch: int = 1) -> npt.NDArray[np.uint64]:
    return erasing_keys(seed=seed, epoch=epoch, sample_ids=np.arange(n, dtype=np.int64))


def boxes_of(n: int, settings: RandomErasing, side_px: int = SIDE_PX, **of: int) -> Tensor:
    return draw_boxes(keys_to_tensor(keys_for(n, **of)), settings, side_px)


def inputs_of(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, SIDE_PX, SIDE_PX, generator=generator) + 10


def reference(uniform: npt.NDArray[np.float64], settings: RandomErasing) -> list[int]:
    """One image's box in float64: top, left, height, width; all 0 where nothing is erased."""
    chosen, area, shape, y, x = uniform
    if chosen >= settings.probability:
        return [0, 0, 0, 0]
    area = settings.min_area + area * (settings.max_area - settings.min_area)
    low = max(np.log(1 / settings.max_aspect), np.log(area))
    high = min(np.log(settings.max_aspect), np.log(1 / area))
    aspect = np.exp(low + shape * (high - low))
    height = min(SIDE_PX, round(SIDE_PX * np.sqrt(area * aspect)))
    width = min(SIDE_PX, round(SIDE_PX * np.sqrt(area / aspect)))
    return [int(y * (SIDE_PX + 1 - height)), int(x * (SIDE_PX + 1 - width)), height, width]


@pytest.mark.parametrize(
    "settings", [USUAL, EVERY, RandomErasing(probability=0.8, min_area=0.5, max_area=1.0)]
)
def test_it_is_what_the_definition_says(settings: RandomErasing) -> None:
    n = 200
    inputs, uniform = inputs_of(n), draw_uniform(keys_for(n), 5)
    found = erase(inputs.clone(), keys_to_tensor(keys_for(n)), settings)
    same = 0
    for row in range(n):
        top, left, height, width = reference(uniform[row], settings)
        expected = inputs[row].clone()
        expected[:, top : top + height, left : left + width] = 0
        same += torch.equal(found[row], expected)
    # In float32 a border may lie one pixel beside it.
    assert same >= n - 1


def test_boxes_lie_inside_anywhere_and_of_the_sizes_asked_for() -> None:
    top, left, height, width = boxes_of(40_000, EVERY, 100).unbind(1)
    assert int(top.min()) == int(left.min()) == 0
    assert int((top + height).max()) == int((left + width).max()) == 100
    area = (height * width).double() / 100**2
    assert float(area.min()) > 0.015
    assert float(area.max()) < 0.345
    assert float(area.mean()) == pytest.approx((0.02 + 0.33) / 2, abs=0.002)
    ratio = torch.maximum(height / width, width / height)
    assert 3.2 < float(ratio.max()) < 4  # rounded to whole pixels
    assert float((height > width).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_one_half_is_erased_by_default_and_the_rest_left_as_it_is() -> None:
    boxes = boxes_of(40_000, USUAL)
    assert float((boxes[:, 2] > 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert ((boxes[:, 2] > 0) == (boxes[:, 3] > 0)).all()


def test_the_whole_image_can_go() -> None:
    boxes = boxes_of(9, RandomErasing(probability=1.0, min_area=1.0, max_area=1.0))
    assert boxes.tolist() == [[0, 0, SIDE_PX, SIDE_PX]] * 9


def test_an_image_does_not_depend_on_its_batch() -> None:
    inputs, keys = inputs_of(7), keys_to_tensor(keys_for(7))
    whole = erase(inputs.clone(), keys, EVERY)
    for start, stop in ((0, 1), (1, 7), (3, 3)):
        part = erase(inputs[start:stop].clone(), keys[start:stop], EVERY)
        assert torch.equal(part, whole[start:stop])


def test_epochs_and_seeds_erase_differently() -> None:
    first = boxes_of(4, EVERY)
    assert not torch.equal(first, boxes_of(4, EVERY, epoch=2))
    assert not torch.equal(first, boxes_of(4, EVERY, seed=4))


@pytest.mark.parametrize(
    "fields",
    [{"probability": 0.0}, {"min_area": 0.5}, {"max_area": 1.1}, {"max_aspect": 0.5}, {"value": 0}],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RandomErasing(**fields)
