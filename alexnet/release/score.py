"""Run by path in a fresh process: load a model from MLflow and let it answer for some images.

    python -P score.py MODEL_URI FOLDER

FOLDER holds `images.npz` (`jpeg-0`, `jpeg-1`, … uint8 file bytes; `pixels` (n, height, width, 3))
and gets `answers.json`. Imports nothing of ours, so that the code which answers is the model's.
"""

import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


def main(model_uri: str, folder: Path) -> None:
    """Score `images.npz`, as bytes and as arrays, and write `answers.json`."""
    with np.load(folder / "images.npz") as images:
        pixels = images["pixels"]
        jpegs = [images[f"jpeg-{i}"].tobytes() for i in range(len(pixels))]
    model = mlflow.pyfunc.load_model(model_uri)
    answers = {
        "center": _plain(model.predict(pd.DataFrame({"image": jpegs}))),
        "center_of_arrays": _plain(model.predict(pd.DataFrame({"image": list(pixels)}))),
        "ten_crop": _plain(
            model.predict(pd.DataFrame({"image": jpegs}), params={"views": "ten_crop"})
        ),
    }
    (folder / "answers.json").write_text(json.dumps(answers))


def _plain(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {name: frame[name].tolist() for name in ("label", "probability")}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
