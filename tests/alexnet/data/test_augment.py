import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from alexnet.counter_rng_torch import draw_normal, keys_to_tensor
from alexnet.data.augment import (
    Augment,
    AugmentSettings,
    center_view,
    nine_views,
    ten_views,
)
from alexnet.data.erasing import erase as erase_boxes
from alexnet.data.erasing import erasing_keys
from alexnet.data.image_draws import ImageDraws, color_noise_keys
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.jitter import jitter_colors, jitter_keys
from alexnet.settings import ColorJitter, RandomErasing
from infra.errors import RecipeError

# ILSVRC-2012, as published with cuda-convnet2 (its `input_meta`); each line is one axis in R, G, B.
STDS = (19.7208, 37.0939, 121.7801)
AXES = (
    (0.41795513, -0.81698062, 0.39731118),
    (-0.71257945, -0.02354167, 0.70119634),
    (-0.56351045, -0.5761844, -0.59200296),
)
STORED_PX = (12, 14)


def _statistics(seed: int = 0) -> InputStatistics:
    rng = np.random.default_rng(seed)
    return InputStatistics(
        mean_image=rng.uniform(90, 140, (*STORED_PX, 3)).astype(np.float32),
        channel_mean=np.array([127.3, 119.7, 104.9], dtype=np.float32),
        channel_std=np.array([74.0, 72.0, 77.0], dtype=np.float32),
        color_eigenvectors=np.array(AXES, dtype=np.float32).T,
        color_stds=np.array(STDS, dtype=np.float32),
    )


def _images(n: int, height_px: int = 8, width_px: int = 8) -> Tensor:
    pixels = np.random.default_rng(1).integers(0, 256, (n, height_px, width_px, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def _keys(n: int) -> Tensor:
    ids = np.arange(n, dtype=np.int64)
    return keys_to_tensor(color_noise_keys(seed=0, epoch=0, sample_ids=ids))


def _reference(
    images: Tensor, flips: npt.NDArray[np.bool_], keys: Tensor, c: float
) -> npt.NDArray[np.float64]:
    """One image after the other, in float64."""
    statistics = _statistics()
    # (12 - 8) / 2 = 2 rows and (14 - 8) / 2 = 3 columns are cut off at each side.
    mean = statistics.mean_image[2:10, 3:11].astype(np.float64)
    normal = draw_normal(keys, 3).numpy().astype(np.float64)
    inputs = []
    for image, flip, z in zip(images.numpy().astype(np.float64), flips, normal, strict=True):
        cut = image[:, ::-1] if flip else image
        x = cut - mean
        if c > 0:
            x = (x + c * np.array(AXES).T @ (np.array(STDS) * z)) / (1 + c)
        inputs.append(x.transpose(2, 0, 1))
    return np.stack(inputs)


@pytest.mark.parametrize("c", [0.0, 0.1])
def test_training_inputs_match_the_reference(c: float) -> None:
    images, keys = _images(6), _keys(6)
    flips = np.array([True, False, True, True, False, False])
    augment = Augment(AugmentSettings(crop_px=8, color_noise=c), _statistics())
    inputs = augment.training_inputs(images, ImageDraws(flips=torch.from_numpy(flips), noise=keys))
    assert inputs.dtype == torch.float32
    assert inputs.shape == (6, 3, 8, 8)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert np.allclose(inputs.numpy(), _reference(images, flips, keys, c), rtol=0, atol=1e-4)


def test_a_phase_can_switch_the_noise_off_and_with_it_the_division() -> None:
    images, keys = _images(4), _keys(4)
    augment = Augment(AugmentSettings(crop_px=8), _statistics())
    quiet = augment.training_inputs(images, ImageDraws(noise=keys), color_noise=0.0)
    assert torch.equal(quiet, augment.evaluation_inputs(images))
    noisy = augment.training_inputs(images, ImageDraws(noise=keys))
    # One colour for all pixels of an image, besides the division of everything by 1.1.
    shift = noisy * 1.1 - quiet
    assert float(shift.std(dim=(2, 3)).max()) < 1e-4
    assert float(shift.mean(dim=(2, 3)).abs().min()) > 0.01


def test_noise_has_the_published_strength_in_each_channel() -> None:
    n = 200_000
    grey = torch.zeros(n, 1, 1, 3, dtype=torch.uint8)
    augment = Augment(AugmentSettings(crop_px=1), _statistics())
    noisy = augment.training_inputs(grey, ImageDraws(noise=_keys(n)))
    std = noisy.double().std(dim=(0, 2, 3))
    assert torch.allclose(std * 1.1, torch.tensor([7.400, 7.200, 7.704]).double(), rtol=0.01)
    assert torch.allclose(std, torch.tensor([6.727, 6.545, 7.004]).double(), rtol=0.01)


def test_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    images, keys = _images(5), _keys(5)
    augment = Augment(AugmentSettings(crop_px=8), _statistics())
    whole = augment.training_inputs(images, ImageDraws(noise=keys))
    part = augment.training_inputs(images[3:], ImageDraws(noise=keys[3:]))
    assert torch.equal(part, whole[3:])


def test_the_mean_is_not_mirrored_with_the_image() -> None:
    images = _images(1)
    augment = Augment(AugmentSettings(crop_px=8, color_noise=0.0), _statistics())
    flips = torch.tensor([True])
    mirrored = augment.training_inputs(images, ImageDraws(flips=flips, noise=_keys(1)))
    plain = augment.evaluation_inputs(images)
    assert torch.equal(mirrored, augment.evaluation_inputs(images.flip(2)))
    assert not torch.equal(mirrored, plain.flip(3))


def test_channels_is_torchvisions_normalisation() -> None:
    images, statistics = _images(4), _statistics()
    augment = Augment(AugmentSettings(crop_px=8, normalise="channels"), statistics)
    mean, std = statistics.channel_mean / 255, statistics.channel_std / 255
    expected = ((images.numpy() / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(augment.evaluation_inputs(images).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("normalise", ["mean-image", "channels"])
def test_an_empty_share_becomes_an_empty_batch(normalise: str) -> None:
    settings = AugmentSettings.model_validate({"crop_px": 8, "normalise": normalise})
    augment = Augment(settings, _statistics())
    flips = torch.empty(0, dtype=torch.bool)
    inputs = augment.training_inputs(_images(0), ImageDraws(flips=flips, noise=_keys(0)))
    assert inputs.shape == (0, 3, 8, 8)
    assert inputs.dtype == torch.float32


def test_the_stored_pixels_are_left_as_they_were() -> None:
    images = _images(2)
    before = images.clone()
    augment = Augment(AugmentSettings(crop_px=8), _statistics())
    augment.training_inputs(images, ImageDraws(flips=torch.tensor([True, False]), noise=_keys(2)))
    assert torch.equal(images, before)


def test_colours_are_jittered_before_the_mean_and_boxes_erased_after_all_else() -> None:
    """Noise, the division by 1.1 and the scale move no erased pixel; 0 is the mean."""
    jitter, erase = ColorJitter(brightness=0.4, contrast=0.4), RandomErasing(probability=1.0)
    settings = AugmentSettings(crop_px=8, jitter=jitter, erase=erase, scale=0.5)
    images, ids = _images(6), np.arange(6, dtype=np.int64)
    noise, jitters, erasing = (
        keys_to_tensor(keys(seed=0, epoch=0, sample_ids=ids))
        for keys in (color_noise_keys, jitter_keys, erasing_keys)
    )
    before = images.clone()
    found = Augment(settings, _statistics()).training_inputs(
        images, ImageDraws(noise=noise, jitter=jitters, erasing=erasing)
    )
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=torch.channels_last)

    mean = torch.from_numpy(_statistics().mean_image[2:10, 3:11])
    shift = (draw_normal(noise, 3)[:, None] * torch.tensor(AXES).T * torch.tensor(STDS)).sum(2)
    pixels = jitter_colors(images.float(), jitters, jitter) - mean
    inputs = 0.5 * (pixels + 0.1 * shift[:, None, None]).permute(0, 3, 1, 2) / 1.1
    expected = erase_boxes(inputs, erasing, erase)
    assert (expected == 0).any(dim=(1, 2, 3)).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_keys_alone_change_nothing_where_the_settings_do_not_ask() -> None:
    images, keys = _images(4), _keys(4)
    augment = Augment(AugmentSettings(crop_px=8), _statistics())
    plain = augment.training_inputs(images, ImageDraws(noise=keys))
    given = augment.training_inputs(images, ImageDraws(noise=keys, jitter=keys, erasing=keys))
    assert torch.equal(given, plain)


def test_ten_views_are_four_corners_and_the_centre_then_their_mirrors() -> None:
    # Every pixel holds its own position, so a view's corner says where it was cut.
    rows = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 256)
    stored = torch.stack([rows, rows.T, rows], dim=2)[None]
    views = ten_views(stored, 224)
    corners = [(int(view[0, 0, 0, 0]), int(view[0, 0, 0, 1])) for view in views[:5]]
    assert corners == [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    assert len(views) == 10
    assert all(view.shape == (1, 224, 224, 3) for view in views)
    for plain, mirrored in zip(views[:5], views[5:], strict=True):
        assert torch.equal(mirrored, plain.flip(2))
    assert torch.equal(center_view(stored, 224), views[2])


def test_nine_views_are_a_grid_of_three_by_three_and_none_is_mirrored() -> None:
    rows = torch.arange(32, dtype=torch.uint8)[:, None].expand(32, 32)
    views = nine_views(torch.stack([rows, rows.T, rows], dim=2)[None], 24)
    corners = [(int(view[0, 0, 0, 0]), int(view[0, 0, 0, 1])) for view in views]
    assert corners == [(y, x) for y in (0, 4, 8) for x in (0, 4, 8)]
    for view in views:
        assert view.shape == (1, 24, 24, 3)
        assert (view[0, 0, 1:, 1].int() - view[0, 0, :-1, 1].int() == 1).all()  # left to right
    stored = _images(3, 12, 14)
    assert torch.equal(nine_views(stored, 8)[4], center_view(stored, 8))
    assert torch.equal(nine_views(stored, 8)[8], stored[:, 4:12, 6:14])


def test_stored_images_are_scaled_only_if_the_settings_say_so() -> None:
    images = _images(3, 12, 12)
    images[0] = 200
    plain = Augment(AugmentSettings(crop_px=8), _statistics())
    assert plain.to_view_size(images) is images
    scaled = Augment(AugmentSettings(crop_px=8, view_px=9), _statistics()).to_view_size(images)
    assert scaled.shape == (3, 9, 9, 3)
    assert scaled.dtype == torch.uint8
    assert (scaled[0] == 200).all()
    expected = Image.fromarray(images[1].numpy()).resize((9, 9), Image.Resampling.BILINEAR)
    difference = np.abs(scaled[1].numpy().astype(int) - np.asarray(expected, int))
    assert difference.max() <= 1


def test_views_of_images_that_are_not_square() -> None:
    stored = _images(3, 12, 14)
    assert torch.equal(center_view(stored, 8), stored[:, 2:10, 3:11])
    assert torch.equal(ten_views(stored, 8)[4], stored[:, 4:12, 6:14])
    assert len(ten_views(stored[:0], 8)) == 10


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(RecipeError, match="13 px does not fit"):
        Augment(AugmentSettings(crop_px=13), _statistics())
    with pytest.raises(RecipeError, match="9 px does not fit"):
        center_view(_images(1), 9)


def test_published_statistics_take_the_place_of_a_small_datasets() -> None:
    """The mean of all pixels, not of the central 224: what runs so far have learned from."""
    published = InputStatistics.of_ilsvrc_2012(*STORED_PX)
    settings = AugmentSettings(crop_px=8, statistics="ilsvrc-2012")
    images, noise = _images(4), _keys(4)

    found = Augment(settings, _statistics()).training_inputs(images, ImageDraws(noise=noise))
    drawn = draw_normal(noise, 3).numpy().astype(np.float64)
    shift = (drawn * np.array(STDS)) @ np.array(AXES)  # a row of AXES is one axis in R, G, B
    means = (127.305, 119.715, 104.913)  # R, G, B of the mean image, as published
    pixels = images.numpy() - np.array(means) + 0.1 * shift[:, None, None, :]
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), pixels / 1.1, atol=2e-4)
    # What the axes imply; and they are at right angles, of length one.
    np.testing.assert_allclose(published.channel_std, (74.0, 72.0, 77.0), atol=0.05)
    axes = published.color_eigenvectors
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)


def test_images_are_normalised_as_torchvision_does() -> None:
    """Its presets scale to 0..1 first; a dataset's own deviations are those of all pixels."""
    settings = AugmentSettings(crop_px=8, normalise="channels", statistics="torchvision")
    images = _images(4, 8, 8)
    found = Augment(settings, _statistics()).evaluation_inputs(images)
    scaled = images.permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    torch.testing.assert_close(found, (scaled - mean) / std, rtol=1e-5, atol=1e-5)


def test_statistics_of_a_wrong_shape_are_refused() -> None:
    good = _statistics()
    with pytest.raises(ValueError, match="color_stds has shape"):
        InputStatistics(
            mean_image=good.mean_image,
            channel_mean=good.channel_mean,
            channel_std=good.channel_std,
            color_eigenvectors=good.color_eigenvectors,
            color_stds=good.color_eigenvectors,
        )


@pytest.mark.parametrize(
    "wrong", [{"crop_px": 0}, {"color_noise": -0.1}, {"crop_sharing": 0}, {"crop": 224}]
)
def test_settings_refuse_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings.model_validate(wrong)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in AugmentSettings.model_fields.values())
