"""Stored pixels → log probabilities: evaluation and the registered model share it, so they agree.

Log probabilities rather than probabilities: they rank classes the same, and do not tie at zero.
"""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from alexnet.data.augment import Augment, center_view, nine_views, ten_views
from alexnet.evaluate.rows import View

SCORE_BATCH_ROWS: Final = 64
"""Images scored together, by evaluation, by prediction and where a registered model answers.

Floating-point bits change with the shape of a batch: one number, so that all give the same.
"""

_MANY: Final[dict[View, Callable[[Tensor, int], list[Tensor]]]] = {
    "ten_crop": ten_views,
    "nine_crop": nine_views,
}


def score(model: nn.Module, augment: Augment, images: Tensor, crop_px: int, view: View) -> Tensor:
    """Return ln p of every class, (n, classes) float32, on the images' device.

    Of ten or nine crops: the logarithm of the mean of their *probabilities*, not of their logits.

    Args:
        model: in evaluation mode.
        augment: normalises as in the model's training.
        images: stored ones, (n, height, width, 3) uint8.
        crop_px: side of a view.
        view: which crops.

    Source: the release's `--multiview-test=1`, `LogregCostLayer::fpropActs` in `layer.cu`.
    """
    images = augment.to_view_size(images)
    if view == "center":
        return _log_probabilities(model, augment, center_view(images, crop_px))
    # One crop at a time: ten at once would need ten times the memory, and change the bits.
    scores = [_log_probabilities(model, augment, crop) for crop in _MANY[view](images, crop_px)]
    return torch.stack(scores).logsumexp(dim=0) - math.log(len(scores))


def _log_probabilities(model: nn.Module, augment: Augment, crops: Tensor) -> Tensor:
    # TF32 keeps ten bits of a factor: enough to train, not to count near ties the same everywhere.
    plain = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.inference_mode(), plain:
        return torch.log_softmax(model(augment.evaluation_inputs(crops)).float(), dim=1)
