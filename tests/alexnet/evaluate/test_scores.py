import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alexnet.evaluate.scores import score


def test_ten_crops_average_the_probabilities_of_ten_cuts(tiny_training: Any) -> None:
    model, augment = tiny_training.trained.load_model(), tiny_training.trained.load_augment()
    images = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    total = np.zeros((3, 7))
    for y, x in [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8)]:
        crop = images[:, y : y + 40, x : x + 40]
        for view in (crop, crop[:, :, ::-1]):
            inputs = augment.evaluation_inputs(torch.from_numpy(np.ascontiguousarray(view)))
            with torch.inference_mode():
                total += torch.softmax(model(inputs).double(), 1).numpy()
    scores = score(model, augment, torch.from_numpy(images), 40, "ten_crop")
    np.testing.assert_allclose(scores.exp().numpy(), total / 10, rtol=1e-5)


class OneSureView(nn.Module):
    """Sure of the first view it sees, and of no other."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return torch.tensor([[10.0 if self.calls == 1 else 0.0, 0.0]]).expand(len(images), 2)


def test_one_sure_view_among_ten_counts_as_one_probability(tiny_training: Any) -> None:
    stored = torch.zeros(1, 48, 48, 3, dtype=torch.uint8)
    scores = score(OneSureView(), tiny_training.trained.load_augment(), stored, 40, "ten_crop")
    expected = (1 / (1 + math.exp(-10)) + 9 * 0.5) / 10  # 0.55; of the mean logits 0.73
    assert float(scores.exp()[0, 0]) == pytest.approx(expected, rel=1e-5)


def test_nine_crops_average_the_probabilities_of_nine_cuts(tiny_training: Any) -> None:
    model, augment = tiny_training.trained.load_model(), tiny_training.trained.load_augment()
    images = np.random.default_rng(2).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    total = np.zeros((3, 7))
    for y in (0, 4, 8):
        for x in (0, 4, 8):
            crop = np.ascontiguousarray(images[:, y : y + 40, x : x + 40])
            with torch.inference_mode():
                logits = model(augment.evaluation_inputs(torch.from_numpy(crop))).double().numpy()
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            total += odds / odds.sum(axis=1, keepdims=True)
    scores = score(model, augment, torch.from_numpy(images), 40, "nine_crop")
    np.testing.assert_allclose(scores.exp().numpy(), total / 9, rtol=1e-5)


def test_the_centre_is_the_middle_cut(tiny_training: Any) -> None:
    model, augment = tiny_training.trained.load_model(), tiny_training.trained.load_augment()
    images = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    framed = images.clone()
    framed[:, :4], framed[:, 44:], framed[:, :, :4], framed[:, :, 44:] = 0, 0, 0, 0
    same = score(model, augment, framed, 40, "center")
    assert torch.equal(score(model, augment, images, 40, "center"), same)
