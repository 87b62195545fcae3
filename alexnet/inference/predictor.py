"""Images → names and probabilities, with the pixels that evaluation sees. Knows no MLflow."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from alexnet.evaluate.metrics import top_classes
from alexnet.evaluate.rows import View, view_called
from alexnet.evaluate.scores import SCORE_BATCH_ROWS, score
from alexnet.inference.errors import InputRejected
from alexnet.trained import TrainedNetwork
from preprocessing.dataset.pixels import Pixels, decode_square, to_square
from preprocessing.errors import ImageRejected

Image = bytes | npt.NDArray[np.uint8]


class Predictor:
    """Answers for images with a trained network.

    An image is decoded and scaled to the dataset's stored size by the very functions that built
    the dataset, but not encoded as JPEG again: a file of another size gives slightly other pixels
    than the same file did in the dataset, one of the stored size the same ones.
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = trained.load_model(self._device)
        self._augment = trained.load_augment(self._device)
        self._classes = trained.load_classes().classes
        self._crop_px = trained.augment.crop_px
        self._stored_px = trained.stored_px

    def predict(self, images: Sequence[Image], view: str = "center") -> pd.DataFrame:
        """Return one row an image, in order.

        Args:
            images: files' bytes (JPEG, PNG, …) or (height, width, 3) uint8 RGB arrays.
            view: "center"; or "ten_crop", ten times slower and somewhat better; or "nine_crop".

        Returns:
            Columns label, wnid, name, probability of the best class, and lists, best first, of
            the best five (or all, where there are fewer): top5_labels, top5_wnids, top5_names,
            top5_probabilities.

        Raises:
            InputRejected: an image cannot be used; says which row.
            RecipeError: no such view.
        """
        of_view = view_called(view)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(images), SCORE_BATCH_ROWS):
            part = images[start : start + SCORE_BATCH_ROWS]
            pixels = [self._pixels_of_row(image, start + i) for i, image in enumerate(part)]
            best = best_five(self.scores(pixels, of_view))
            rows += [self._answer(*answer) for answer in zip(*best, strict=True)]
        return pd.DataFrame(rows, columns=COLUMNS)

    def stored_pixels(self, image: Image) -> Pixels:
        """Decode one image and scale it as the dataset's were, (stored, stored, 3).

        Raises:
            ImageRejected: it cannot be used; its text is the reason.
        """
        if isinstance(image, bytes):
            return decode_square(image, self._stored_px)
        return to_square(_checked(image), self._stored_px)

    def scores(self, images: Sequence[Pixels], view: View) -> Tensor:
        """Return ln p of every class, (n, classes) float32.

        Args:
            images: of `stored_pixels`, at least one; what is computed together is one batch.
            view: which crops.
        """
        batch = torch.from_numpy(np.stack(images)).to(self._device)
        return score(self._model, self._augment, batch, self._crop_px, view)

    def _pixels_of_row(self, image: Image, row: int) -> Pixels:
        try:
            return self.stored_pixels(image)
        except ImageRejected as error:
            raise InputRejected(
                f"image {row} (counted from 0) cannot be used: {error}",
                remedy="give JPEG or PNG bytes, or (height, width, 3) uint8 RGB arrays",
            ) from error

    def _answer(self, labels: list[int], probabilities: list[float]) -> dict[str, Any]:
        top = [self._classes[label] for label in labels]
        return {
            "label": labels[0],
            "wnid": top[0].wnid,
            "name": top[0].name,
            "probability": probabilities[0],
            "top5_labels": labels,
            "top5_wnids": [entry.wnid for entry in top],
            "top5_names": [entry.name for entry in top],
            "top5_probabilities": probabilities,
        }


COLUMNS: Final = [
    "label", "wnid", "name", "probability",
    "top5_labels", "top5_wnids", "top5_names", "top5_probabilities",
]  # fmt: skip


def best_five(scores: Tensor) -> tuple[list[list[int]], list[list[float]]]:
    """Return each image's best five labels (or all, where there are fewer) and probabilities.

    Args:
        scores: of `Predictor.scores`.
    """
    best = top_classes(scores, 5)
    return best.tolist(), scores.gather(1, best).exp().tolist()


def _checked(image: object) -> Pixels:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if image.ndim == 3 and image.shape[2] == 3 and image.size:
            return np.ascontiguousarray(image)
        what = f"an array of shape {image.shape}"
    elif isinstance(image, np.ndarray):
        what = f"an array of {image.dtype}"
    else:
        what = f"a {type(image).__name__}"
    raise ImageRejected(f"it is {what}", remedy="give bytes or (height, width, 3) uint8 arrays")
