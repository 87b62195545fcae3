"""What MLflow loads: this file as code, with the package's files as artifacts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from alexnet.inference.predictor import Image, Predictor
from alexnet.release.package import MODEL, open_package
from infra.store import FolderStore


class AlexNetModel(PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Image bytes or arrays in, names and probabilities out; see `Predictor.predict`.

    Through `mlflow.pyfunc.load_model` give bytes, a list or Series of bytes, or a Series or a
    DataFrame's column of bytes or of (height, width, 3) uint8 arrays. MLflow itself refuses bare
    arrays of more than two dimensions; `unwrap_python_model()` takes them.
    """

    # MLflow passes it by keyword: the argument must be called `context`.
    def load_context(self, context: PythonModelContext) -> None:
        """Read weights, statistics and classes."""
        folder = Path(context.artifacts[MODEL]).parent
        self._predictor = Predictor(open_package(FolderStore(folder)))

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row an image; `params={"views": "ten_crop"}` (or nine) averages over crops.

        Takes whatever `images_in` does; of all hints MLflow lets only this one pass in silence.
        """
        view = (params or {}).get("views", "center")
        return self._predictor.predict(images_in(model_input), view)


def images_in(model_input: object) -> Sequence[Image]:
    """Find the images: in a DataFrame's only column, one image, a list or an array of them."""
    if isinstance(model_input, pd.DataFrame):
        return list(model_input["image"] if "image" in model_input else model_input.iloc[:, 0])
    if isinstance(model_input, bytes) or (
        isinstance(model_input, np.ndarray) and model_input.ndim == 3
    ):
        return [model_input]
    return list(model_input)  # type: ignore[call-overload]  # anything else is refused row by row


def signature() -> ModelSignature:
    """One binary column in, the columns of `Predictor.predict` out, one parameter.

    The column has no name: MLflow then takes lists and Series as well as DataFrames.
    """
    texts, numbers = Array(DataType.string), Array(DataType.double)
    outputs = [
        ColSpec(DataType.long, "label"),
        ColSpec(DataType.string, "wnid"),
        ColSpec(DataType.string, "name"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Array(DataType.long), "top5_labels"),
        ColSpec(texts, "top5_wnids"),
        ColSpec(texts, "top5_names"),
        ColSpec(numbers, "top5_probabilities"),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary)]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("views", DataType.string, "center")]),
    )


mlflow.models.set_model(AlexNetModel())
