"""Run by path in a fresh process: load a model from MLflow and let it answer for some images.

    python -P score.py MODEL_URI FOLDER

FOLDER holds `images.npz` (`jpeg-0`, `jpeg-1`, … uint8 file bytes; `pixels` (n, height, width, 3);
`views`, their names) and gets `answers.json`. Imports nothing of ours, so that the code which
answers is the model's.
"""

import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd


def main(model_uri: str, folder: Path) -> None:
    """Score `images.npz`, as bytes in each view and as arrays, and write `answers.json`."""
    with np.load(folder / "images.npz") as images:
        pixels = images["pixels"]
        views = images["views"].tolist()
        jpegs = [images[f"jpeg-{i}"].tobytes() for i in range(len(pixels))]
    model = mlflow.pyfunc.load_model(model_uri)
    files, arrays = pd.DataFrame({"image": jpegs}), pd.DataFrame({"image": list(pixels)})
    answers = {view: _plain(model.predict(files, params={"views": view})) for view in views}
    # As it is asked most, without a parameter: of the centre.
    answers["center_of_arrays"] = _plain(model.predict(arrays))
    (folder / "answers.json").write_text(json.dumps(answers), "utf-8")


def _plain(frame: pd.DataFrame) -> dict[str, list[float]]:
    return {name: frame[name].tolist() for name in ("label", "probability")}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
