import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.data.crops import (
    draw_crops,
    draw_flips,
    draw_resized_crops,
    draw_shared_crops,
    draw_shared_flips,
)
from alexnet.settings import ResizedCrop
from infra.errors import RecipeError

Ids = npt.NDArray[np.int64]
STORED_PX = (256, 256)


def _crops(sample_ids: Ids, *, seed: int = 0, epoch: int = 0) -> Ids:
    return draw_crops(
        seed=seed, epoch=epoch, sample_ids=sample_ids, stored_px=STORED_PX, crop_px=224
    )


def _shared_crops(positions: Ids, *, step: int = 0) -> Ids:
    return draw_shared_crops(
        seed=0, step=step, positions=positions, sharing=32, stored_px=STORED_PX, crop_px=224
    )


def test_offsets_cover_all_33_values_evenly_and_independently() -> None:
    n = 33 * 33 * 100
    offsets = _crops(np.arange(n, dtype=np.int64))
    assert offsets.dtype == np.int64
    assert offsets.shape == (n, 2)
    counts = np.zeros((33, 33))
    np.add.at(counts, (offsets[:, 0], offsets[:, 1]), 1)  # an offset beyond 32 would raise
    chi_square = float(((counts - 100) ** 2 / 100).sum())
    assert 1088 - 5 * 47 < chi_square < 1088 + 5 * 47  # 1088 degrees of freedom, deviation 47


def test_height_and_width_have_their_own_ranges() -> None:
    ids = np.arange(1000, dtype=np.int64)
    offsets = draw_crops(seed=0, epoch=0, sample_ids=ids, stored_px=(24, 30), crop_px=24)
    assert set(offsets[:, 0]) == {0}
    assert set(offsets[:, 1]) == set(range(7))


@pytest.mark.parametrize(
    ("stored_px", "crop_px", "places"), [(256, 224, 1089), (32, 24, 81), (32, 32, 1)]
)
def test_places_and_views_that_an_image_can_give(stored_px: int, crop_px: int, places: int) -> None:
    """Section 8: 33 x 33 and 2178 views; CIFAR 9 x 9 and 162."""
    ids = np.arange(60_000, dtype=np.int64)
    offsets = draw_crops(
        seed=0, epoch=0, sample_ids=ids, stored_px=(stored_px, stored_px), crop_px=crop_px
    )
    flips = draw_flips(seed=0, epoch=0, sample_ids=ids)
    assert len(np.unique(offsets, axis=0)) == places
    assert len(np.unique(np.column_stack([offsets, flips]), axis=0)) == 2 * places


@given(st.lists(st.integers(0, 1_281_166), unique=True, max_size=20), st.integers(0, 90))
def test_a_draw_depends_on_the_sample_alone(sample_ids: list[int], epoch: int) -> None:
    batch = np.array(sample_ids, dtype=np.int64)
    crops = _crops(batch, epoch=epoch)
    flips = draw_flips(seed=0, epoch=epoch, sample_ids=batch)
    assert np.array_equal(_crops(batch[::-1], epoch=epoch), crops[::-1])
    for i in range(len(batch)):
        alone = batch[i : i + 1]
        assert np.array_equal(_crops(alone, epoch=epoch)[0], crops[i])
        assert draw_flips(seed=0, epoch=epoch, sample_ids=alone)[0] == flips[i]


def test_another_epoch_or_seed_draws_anew() -> None:
    ids = np.arange(1000, dtype=np.int64)
    first = _crops(ids)
    for other in (_crops(ids, epoch=1), _crops(ids, seed=1)):
        assert float((other == first).all(axis=1).mean()) < 0.01


def test_flips_are_fair_and_know_nothing_of_the_crop() -> None:
    ids = np.arange(100_000, dtype=np.int64)
    flips = draw_flips(seed=0, epoch=0, sample_ids=ids)
    assert flips.dtype == np.bool_
    assert float(flips.mean()) == pytest.approx(0.5, abs=0.008)
    assert abs(float(np.corrcoef(flips, _crops(ids)[:, 0])[0, 1])) < 0.015


def test_32_neighbours_share_a_crop_and_a_flip_and_four_draws_fill_a_batch() -> None:
    positions = np.arange(128, dtype=np.int64)
    crops = _shared_crops(positions).reshape(4, 32, 2)
    assert (crops == crops[:, :1]).all()
    assert len(np.unique(crops[:, 0], axis=0)) == 4
    flips = [
        draw_shared_flips(seed=0, step=step, positions=positions, sharing=32).reshape(4, 32)
        for step in range(500)
    ]
    assert all((row == row[:, :1]).all() for row in flips)
    assert float(np.mean(flips)) == pytest.approx(0.5, abs=0.06)


def test_shared_draws_change_with_the_step_and_not_with_the_ranks_share() -> None:
    positions = np.arange(128, dtype=np.int64)
    whole = _shared_crops(positions, step=7)
    assert np.array_equal(_shared_crops(positions[43:86], step=7), whole[43:86])
    assert not np.array_equal(_shared_crops(positions, step=8), whole)


def test_values_are_pinned() -> None:
    # Whoever changes these changes what every run has seen of every image.
    ids = np.arange(3, dtype=np.int64)
    assert _crops(ids).tolist() == [[29, 1], [8, 0], [28, 20]]
    assert draw_flips(seed=0, epoch=0, sample_ids=ids).tolist() == [False, True, True]
    assert _shared_crops(32 * ids).tolist() == [[12, 26], [25, 14], [26, 15]]


def test_an_empty_share_draws_nothing() -> None:
    none = np.empty(0, dtype=np.int64)
    assert _crops(none).shape == (0, 2)
    assert _shared_crops(none).shape == (0, 2)
    assert draw_flips(seed=0, epoch=0, sample_ids=none).shape == (0,)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(RecipeError, match="257 px does not fit"):
        draw_crops(
            seed=0,
            epoch=0,
            sample_ids=np.arange(3, dtype=np.int64),
            stored_px=(300, 256),
            crop_px=257,
        )


@given(
    st.tuples(st.integers(8, 300), st.integers(8, 300)),
    st.floats(0.05, 1),
    st.floats(1, 3),
    st.integers(0, 5),
)
def test_resized_crops_lie_inside_with_the_area_and_shape_asked_for(
    stored_px: tuple[int, int], min_area: float, max_aspect: float, epoch: int
) -> None:
    resized = ResizedCrop(min_area=min_area, max_aspect=max_aspect)
    ids = np.arange(50, dtype=np.int64)
    boxes = draw_resized_crops(
        seed=0, epoch=epoch, sample_ids=ids, stored_px=stored_px, resized=resized
    )
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= stored_px[0] + 1e-6).all()
    assert (left + width <= stored_px[1] + 1e-6).all()
    area = height * width / (stored_px[0] * stored_px[1])
    assert (area >= min_area - 1e-6).all()
    assert (area <= 1 + 1e-6).all()
    aspect = np.maximum(height / width, width / height)
    own = max(stored_px) / min(stored_px)
    assert (aspect <= max(max_aspect, own) + 1e-6).all()


def test_resized_crops_are_uniform_in_area_and_depend_on_the_sample_alone() -> None:
    resized = ResizedCrop(min_area=0.35)
    ids = np.arange(20_000, dtype=np.int64)
    size = {"stored_px": (160, 160), "resized": resized}
    boxes = draw_resized_crops(seed=0, epoch=3, sample_ids=ids, **size)
    area = np.sort(boxes[:, 2] * boxes[:, 3] / 160**2)
    assert float(np.abs(area - np.linspace(0.35, 1, len(area))).max()) < 0.01
    assert float(np.log(boxes[:, 2] / boxes[:, 3]).mean()) == pytest.approx(0, abs=0.01)
    some = draw_resized_crops(seed=0, epoch=3, sample_ids=ids[77:80], **size)
    np.testing.assert_array_equal(some, boxes[77:80])
