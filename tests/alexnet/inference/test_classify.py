import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from alexnet.inference import classify
from alexnet.inference.classify import ANSWERS, BatchClassifier, ClassifySpec
from alexnet.inference.inputs import find_parts
from alexnet.inference.predictor import Predictor
from infra.errors import DataError
from preprocessing.dataset.stored import encode_jpeg


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    return encode_jpeg(pixels, 90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seventy pictures, so two blocks, and in the first one what is none."""
    for number in range(70):
        (tmp_path / f"{number:03}.jpg").write_bytes(picture(number))
    (tmp_path / "001.txt").write_bytes(b"hello")
    (tmp_path / "002.cut.jpg").write_bytes(picture(0)[:900])
    return tmp_path


@pytest.mark.parametrize("view", ["center", "ten_crop"])
def test_the_answers_are_the_predictors(tiny_training: Any, folder: Path, view: Any) -> None:
    trained = tiny_training.trained
    tables = list(
        BatchClassifier(trained, ClassifySpec(view), num_threads=2).run(find_parts([str(folder)]))
    )
    assert [len(table) for table in tables] == [64, 8]
    assert all(table.schema == ANSWERS for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    bad = [row for row in rows if row["reason"] is not None]
    assert [Path(row["path"]).name for row in bad] == ["001.txt", "002.cut.jpg"]
    assert bad[0]["reason"] == "not an image"
    assert "truncated" in bad[1]["reason"]
    good = [row for row in rows if row["reason"] is None]
    expected = Predictor(trained).predict([picture(number) for number in range(70)], view)
    assert [row["labels"] for row in good] == expected["top5_labels"].tolist()
    np.testing.assert_allclose(
        np.array([row["probabilities"] for row in good]),
        np.array(expected["top5_probabilities"].tolist()),
        rtol=1e-4,
    )


def test_every_class_has_its_probability_if_asked_for(tiny_training: Any, folder: Path) -> None:
    parts = find_parts([str(folder)])
    plain, whole = (
        pa.concat_tables(BatchClassifier(tiny_training.trained, spec, num_threads=1).run(parts))
        for spec in (ClassifySpec("ten_crop"), ClassifySpec("ten_crop", all_probabilities=True))
    )
    assert whole.select(ANSWERS.names).equals(plain)
    for row in whole.to_pylist():
        every = row["all_probabilities"]
        if row["reason"] is not None:
            assert every is None
            continue
        assert sum(every) == pytest.approx(1, abs=1e-5)
        assert sorted(every, reverse=True)[:5] == pytest.approx(row["probabilities"])
        assert [every[label] for label in row["labels"]] == pytest.approx(row["probabilities"])


def test_a_block_without_an_image_has_only_reasons(tiny_training: Any, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_bytes(b"hello")
    (table,) = BatchClassifier(tiny_training.trained, ClassifySpec(), num_threads=1).run(
        find_parts([str(tmp_path)])
    )
    assert table["labels"].null_count == 3
    assert table["reason"].to_pylist() == ["not an image"] * 3


def test_any_format_is_taken_and_a_bomb_is_not(
    tiny_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (mode, suffix) in enumerate([("CMYK", "jpg"), ("P", "gif"), ("L", "webp")]):
        Image.new(mode, (9, 7)).save(tmp_path / f"{number}.{suffix}")
    file = io.BytesIO()
    Image.new("RGB", (50, 20)).save(file, "PNG")
    (tmp_path / "3.png").write_bytes(file.getvalue())
    monkeypatch.setattr("preprocessing.dataset.pixels.MAX_PIXELS", 999)
    (table,) = BatchClassifier(tiny_training.trained, ClassifySpec(), num_threads=1).run(
        find_parts([str(tmp_path)])
    )
    assert table["reason"].to_pylist() == [None] * 3 + ["50x20 is more than 999 pixels"]


def test_a_diverged_network_is_told(
    tiny_training: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverged = torch.full((62, 7), float("nan"))
    monkeypatch.setattr(classify.Predictor, "scores", lambda *_: diverged)
    predictor = BatchClassifier(tiny_training.trained, ClassifySpec(), num_threads=1)
    with pytest.raises(DataError, match="not all finite"):
        next(predictor.run(find_parts([str(folder)])))
