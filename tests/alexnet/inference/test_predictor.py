import io
from typing import Any

import numpy as np
import pytest
import torch
from jpeg_archives import make_jpeg
from PIL import Image

from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.evaluate.scores import score
from alexnet.inference.errors import InputRejected
from alexnet.inference.predictor import Predictor
from alexnet.release.package import open_package, write_package
from alexnet.release.pyfunc_model import images_in
from infra.errors import DataError, RecipeError
from infra.store import FolderStore
from preprocessing.dataset.pixels import decode_image, decode_square, to_square


@pytest.fixture(scope="module")
def predictor(tiny_training: Any, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("package")
    write_package(tiny_training.trained, folder)
    return Predictor(open_package(FolderStore(folder)))


@pytest.mark.parametrize("view", ["center", "ten_crop", "nine_crop"])
def test_stored_jpegs_get_the_answers_of_evaluation(
    predictor: Predictor, tiny_training: Any, view: Any
) -> None:
    manifest = tiny_training.manifest
    reader = BlockReader(tiny_training.store, manifest)
    rows = reader.read(plan_blocks(manifest.val)[0])
    reader.close()
    trained = tiny_training.trained
    images = torch.from_numpy(rows.decode())
    scores = score(trained.load_model(), trained.load_augment(), images, 40, view)
    answers = predictor.predict([jpeg.tobytes() for jpeg in rows.encoded], view)
    np.testing.assert_allclose(answers["probability"], scores.exp().max(1).values, rtol=1e-5)
    assert answers["label"].tolist() == scores.argmax(1).tolist()
    assert (answers["name"] == [f"class {label}" for label in answers["label"]]).all()
    assert answers["top5_labels"].map(len).eq(5).all()
    assert [top[0] for top in answers["top5_names"]] == answers["name"].tolist()
    arrays = predictor.predict(list(rows.decode()), view)
    assert arrays["probability"].tolist() == answers["probability"].tolist()


def test_any_size_is_scaled_as_the_dataset_was(predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    answers = predictor.predict([file.getvalue(), pixels])
    assert answers["probability"][0] == answers["probability"][1]


def test_a_large_jpeg_gets_the_pixels_of_a_build(predictor: Predictor, tiny_training: Any) -> None:
    body = make_jpeg(3, width=611, height=517)
    side_px = tiny_training.manifest.height_px
    pixels = predictor.stored_pixels(body)
    assert np.array_equal(pixels, decode_square(body, side_px))
    assert not np.array_equal(pixels, to_square(decode_image(body), side_px))  # decoded smaller


def test_no_images_give_no_rows(predictor: Predictor) -> None:
    answers = predictor.predict([])
    assert len(answers) == 0
    assert "probability" in answers


@pytest.mark.parametrize(
    "bad", [b"no image", b"", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "a.jpg", None]
)
def test_what_is_no_image_is_named_by_its_row(predictor: Predictor, bad: Any) -> None:
    good = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(InputRejected, match="image 1 "):
        predictor.predict([good, bad])


def test_an_unknown_view_is_refused(predictor: Predictor) -> None:
    with pytest.raises(RecipeError, match="no view 'all'"):
        predictor.predict([], "all")


def test_one_image_and_arrays_of_images_are_understood() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    assert len(images_in(image)) == len(images_in(b"jpeg")) == 1
    assert [one.shape for one in images_in(np.stack([image, image]))] == [(4, 5, 3)] * 2


def test_a_folder_without_a_model_is_refused(tmp_path: Any) -> None:
    with pytest.raises(DataError, match="no model"):
        open_package(FolderStore(tmp_path))
