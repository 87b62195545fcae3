import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from alexnet.data.augment import center_view
from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.inference import features_file
from alexnet.inference.features import FeatureSpec, features_of, features_schema
from alexnet.inference.features_file import FeaturesHeader, features_writer, open_features
from alexnet.inference.inputs import find_parts
from alexnet.inference.layer_outputs import LayerOutputs, choose_layer
from alexnet.model.layer_names import layer_taps
from alexnet.trained import TrainedNetwork
from infra import parquet
from infra.errors import DataError, RecipeError
from infra.store import FolderStore, MemoryStore
from infra.store.s3 import S3Store
from preprocessing.dataset.stored import encode_jpeg

HEADER = FeaturesHeader(
    model="m", model_digest="0" * 64, network="alexnet-2012", step=1, layer="fc7_relu", width=1024
)


def inputs_of(trained: TrainedNetwork, pixels: Any) -> torch.Tensor:
    views = center_view(torch.from_numpy(np.stack(pixels)), trained.augment.crop_px)
    return trained.load_augment().evaluation_inputs(views)


def pixels_of(count: int, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(count)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, side // 6, side // 6, 1), np.uint8))


def extract(
    trained: TrainedNetwork, *names: object, layer: str | None = None, **how: Any
) -> pa.Table:
    spec = FeatureSpec(*choose_layer(trained, layer))
    answers = spec.runner(trained, num_threads=2).run(find_parts(map(str, names), **how))
    return pa.concat_tables(answers)


def test_the_default_is_fc7_after_its_relu_and_not_halved(tiny_training: Any) -> None:
    """By hand from fc6's and fc7's weights; the network of 2012 halves both afterwards."""
    trained: TrainedNetwork = tiny_training.trained
    layer, width = choose_layer(trained, None)
    model: Any = trained.load_model()
    assert (layer, width) == ("fc7_relu", model.fc7.out_features)
    pixels = pixels_of(5)
    found = LayerOutputs.load(trained, layer)(list(pixels))
    before = LayerOutputs.load(trained, "conv5_relu")(list(pixels))
    weights = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    fc6 = np.maximum(before.astype(np.float64) @ weights["fc6.weight"].T + weights["fc6.bias"], 0)
    fc7 = np.maximum(0.5 * fc6 @ weights["fc7.weight"].T + weights["fc7.bias"], 0)
    np.testing.assert_allclose(found, fc7, rtol=1e-4, atol=1e-5)
    assert found.any()
    # And the logits follow from half of it.
    with torch.no_grad():
        logits = model(inputs_of(trained, pixels)).numpy()
    np.testing.assert_allclose(
        0.5 * fc7 @ weights["fc8.weight"].T + weights["fc8.bias"], logits, rtol=1e-3, atol=1e-4
    )


def test_every_layers_width_is_known_without_weights(tiny_training: Any) -> None:
    trained = tiny_training.trained
    lost = replace(trained, weights=None)  # whoever read them would fail
    for layer in layer_taps(trained.load_model()):
        name, width = choose_layer(lost, layer)
        shape = LayerOutputs.load(trained, name)(list(pixels_of(2))).shape
        assert shape[0] == 2
        assert np.prod(shape[1:]) == width, layer


def test_an_unknown_layer_is_answered_with_the_list(tiny_training: Any) -> None:
    with pytest.raises(RecipeError, match="alexnet-2012: there is no layer 'fc7relu'") as refusal:
        choose_layer(tiny_training.trained, "fc7relu")
    assert "did you mean 'fc7_relu'? Known: conv1, conv1_across," in refusal.value.remedy


def test_a_row_an_image_with_what_is_known_of_it(tiny_training: Any, tmp_path: Path) -> None:
    for number, pixels in enumerate(pixels_of(2)):
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(pixels, 90))
    (tmp_path / "note.txt").write_bytes(b"hello")
    trained, store = tiny_training.trained, tiny_training.store
    table = extract(trained, tmp_path, store.uri)
    assert table.num_rows == 3 + 150
    rows = table.slice(0, 4).drop_columns("features").to_pylist()
    shard = f"{store.uri}/val/part-0.parquet"
    label = pq.read_table(shard, columns=["label"])["label"][0].as_py()
    assert rows == [
        {"path": f"{tmp_path}/0.jpg", "uri": f"{tmp_path}/0.jpg", "row": None, "label": None,
         "reason": None},
        {"path": f"{tmp_path}/1.jpg", "uri": f"{tmp_path}/1.jpg", "row": None, "label": None,
         "reason": None},
        {"path": f"{tmp_path}/note.txt", "uri": f"{tmp_path}/note.txt", "row": None, "label": None,
         "reason": "not an image"},
        {"path": "0.jpg", "uri": shard, "row": 0, "label": label, "reason": None},
    ]  # fmt: skip
    assert table["features"].is_null().to_pylist()[:4] == [False, False, True, False]
    # Of a dataset the features of the very pixels and blocks that evaluation sees.
    own = extract(trained, store.uri)
    block = plan_blocks(tiny_training.manifest.val)[0]
    stored = BlockReader(store, tiny_training.manifest).read(block)
    expected = LayerOutputs.load(trained, "fc7_relu")(list(stored.decode()))
    np.testing.assert_array_equal(features_of(own)[:64], expected)
    assert own["label"].to_pylist()[:64] == stored.labels.tolist()
    train = extract(trained, store.uri, split="train")
    assert train.num_rows == tiny_training.manifest.train.count


def test_a_parquet_file_of_images_may_have_labels(tiny_training: Any, tmp_path: Path) -> None:
    jpegs = [encode_jpeg(pixels, 90) for pixels in pixels_of(3)]
    labelled, named = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pq.write_table(pa.table({"label": [4, None, 6], "image": jpegs}), labelled)
    pq.write_table(pa.table({"label": ["a", "b", "c"], "image": jpegs}), named)
    table = extract(tiny_training.trained, labelled, named)
    assert table["label"].to_pylist() == [4, None, 6, None, None, None]
    assert table["row"].to_pylist() == [0, 1, 2, 0, 1, 2]


def noise(rows: int, seed: int) -> pa.Table:
    """Features that hardly compress."""
    values = np.random.default_rng(seed).random((rows, HEADER.width), np.float32)
    columns = {
        "path": [f"{seed}-{row}" for row in range(rows)],
        "uri": ["u"] * rows,
        "row": list(range(rows)),
        "label": [None] * rows,
        "features": pa.FixedSizeListArray.from_arrays(values.reshape(-1), HEADER.width),
    }
    return pa.table(columns, schema=features_schema(HEADER.width))


class Watched(FolderStore):
    """Counts the bytes that are read."""

    read_bytes = 0

    def open_input(self, key: str) -> pa.NativeFile:
        store, inner = self, super().open_input(key)

        class Counting(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return True

            def seek(self, *where: int) -> int:
                return int(inner.seek(*where))

            def tell(self) -> int:
                return int(inner.tell())

            def read(self, size: int = -1) -> bytes:
                body = inner.read(size)
                store.read_bytes += len(body)
                return bytes(body)

            def close(self) -> None:
                inner.close()
                super().close()

        return pa.PythonFile(Counting(), mode="r")


def test_a_file_is_written_as_rows_come_and_read_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_file, "GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(parquet, "READ_BYTES", 1 << 18)
    store, tables = Watched(tmp_path), [noise(64, seed) for seed in range(32)]  # 8 MiB
    on_disk = []
    with features_writer(store, "f.parquet", HEADER) as writer:
        for table in tables:
            writer.add(table)
            on_disk.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
    table_bytes = 64 * 4 * HEADER.width
    for number, size in enumerate(on_disk, 1):
        assert size > 0.8 * (number * table_bytes - (1 << 20) - table_bytes)
    file = open_features(store, "f.parquet")
    assert file is not None
    assert file.num_rows() == 32 * 64
    store.read_bytes = 0
    found = []
    for number, table in enumerate(file.tables(), 1):
        assert table.nbytes < 1.2 * (1 << 20)
        assert store.read_bytes < 1.2 * number * (1 << 20) + (1 << 20)
        found.append(table)
    assert pa.concat_tables(found).equals(pa.concat_tables(tables))


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("nan", remedy="")])
def test_an_interrupted_file_is_not_there(tmp_path: Path, error: BaseException) -> None:
    def write() -> None:
        with features_writer(FolderStore(tmp_path), "f.parquet", HEADER) as writer:
            writer.add(noise(64, 0))
            writer.flush()
            raise error

    with pytest.raises((KeyboardInterrupt, DataError)):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_features_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    pq.write_table(pa.table({"image": [b"1"]}), tmp_path / "images.parquet")
    assert open_features(store, "images.parquet") is None
    assert open_features(store, "nothing.parquet") is None
    assert open_features(MemoryStore(), "a.jpg") is None
    with features_writer(store, "f.parquet", HEADER) as writer:
        writer.add(noise(64, 0))
    found = open_features(store, "f.parquet")
    assert found is not None
    assert found.header == HEADER
    body = bytearray((tmp_path / "f.parquet").read_bytes())
    body[len(body) // 2] ^= 1
    (tmp_path / "f.parquet").write_bytes(body)
    with pytest.raises(DataError, match="no sound Parquet file"):
        list(found.tables())
    (tmp_path / "f.parquet").write_bytes(body[:-9])
    with pytest.raises(DataError, match="no sound Parquet file"):
        open_features(store, "f.parquet")
    newer = pq.read_schema(tmp_path / "images.parquet").with_metadata({"alexnet.features": "{}"})
    pq.write_table(newer.empty_table(), tmp_path / "newer.parquet")
    with pytest.raises(DataError, match="says of its features cannot be read"):
        open_features(store, "newer.parquet")


def test_features_keep_their_rows_in_slices_and_chunks() -> None:
    table = pa.concat_tables([noise(3, 0), noise(0, 1), noise(2, 2)])
    expected = np.array(table["features"].to_pylist(), np.float32)
    np.testing.assert_array_equal(features_of(table), expected)
    np.testing.assert_array_equal(features_of(table.slice(2, 2)), expected[2:4])
    assert features_of(table.slice(5)).shape == (0, HEADER.width)


def test_a_diverged_network_is_told(
    tiny_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(pixels_of(1)[0], 90))

    trained = tiny_training.trained
    model: Any = trained.load_model()
    with torch.no_grad():
        model.fc7.bias.fill_(torch.nan)
    monkeypatch.setattr(TrainedNetwork, "load_model", lambda *_: model)
    with pytest.raises(DataError, match="not all finite"):
        extract(trained, tmp_path)


@pytest.fixture
def ray_parts(tiny_training: Any, tmp_path: Path) -> list[Any]:
    (tmp_path / "note.txt").write_bytes(b"hello")
    return find_parts([str(tmp_path), tiny_training.store.uri])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context")
def test_ray_gives_the_features_of_one_process_in_order(
    tiny_training: Any, ray_parts: list[Any]
) -> None:
    from alexnet.inference.answer_many import answer_many

    spec = FeatureSpec(*choose_layer(tiny_training.trained, None))
    alone = spec.runner(tiny_training.trained, num_threads=1).run(ray_parts)
    many = pa.concat_tables(answer_many(tiny_training.trained, ray_parts, spec))
    assert many.equals(pa.concat_tables(alone))


def test_in_s3_too_a_file_is_whole_or_not_there(s3_store: S3Store) -> None:
    def interrupted() -> None:
        with features_writer(s3_store, "f.parquet", HEADER) as writer:
            writer.add(noise(64, 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(s3_store.list()) == []
    tables = [noise(64, seed) for seed in range(100)]  # 25 MiB: several parts of an upload
    with features_writer(s3_store, "f.parquet", HEADER) as writer:
        for table in tables:
            writer.add(table)
    file = open_features(s3_store, "f.parquet")
    assert file is not None
    assert pa.concat_tables(file.tables()).equals(pa.concat_tables(tables))
