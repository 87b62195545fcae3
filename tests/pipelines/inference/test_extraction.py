"""`alexnet features` and `alexnet similar` on a workspace that holds the tiny training."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import pipelines
from alexnet.inference.errors import InputRejected
from alexnet.inference.features import features_of
from alexnet.train.attempts import claim_attempt
from infra.errors import DataError, Interrupted, RecipeError
from infra.store import FolderStore
from pipelines.cli import app
from pipelines.inference.extraction import Features, extract_features
from pipelines.inference.similarity import find_similar
from pipelines.inference.similarity_answer import Similar
from preprocessing.dataset.stored import encode_jpeg


@pytest.fixture
def workspace(tiny_training: Any, tmp_path: Path) -> Path:
    """A workspace with one training and its dataset."""
    root = tmp_path / "workspace"
    run = root / "runs" / "demo-1a2b3c4d5e6f7a8b"
    checkpoint = Path(tiny_training.checkpoint.uri)
    shutil.copytree(checkpoint, run / "checkpoints" / checkpoint.name)
    shutil.copytree(tiny_training.store.uri, root / "datasets" / "tiny-0")
    (run / "run.json").write_text("{}")
    claim_attempt(FolderStore(run), start_step=0, world_size=1)
    return root


@pytest.fixture
def dataset(workspace: Path) -> Path:
    return workspace / "datasets" / "tiny-0"


@pytest.fixture
def pictures(dataset: Path, tmp_path: Path) -> Path:
    """Two of the training images, another, and what is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = pq.read_table(dataset / "train" / "part-0.parquet")["image"].to_pylist()
    (folder / "a.jpg").write_bytes(rows[7]["bytes"])
    (folder / "b.jpg").write_bytes(rows[19]["bytes"])
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    (folder / "c.jpg").write_bytes(encode_jpeg(noise, 90))
    (folder / "note.txt").write_bytes(b"hello")
    return folder


def extract(*images: object, output: object, workspace: Path, **options: Any) -> Features:
    settings: dict[str, Any] = {"layer": None, "split": "val", **options}
    return extract_features(
        "demo",
        [str(image) for image in images],
        output=str(output),
        workspace=str(workspace),
        tracking_uri=None,
        stream=io.StringIO(),
        **settings,
    )


def similar(*images: object, among: object, workspace: Path, **options: Any) -> Similar:
    settings: dict[str, Any] = {"count": 6, "layer": None, "output": None, "picture": None}
    return find_similar(
        "demo",
        [str(image) for image in images],
        among=str(among),
        workspace=str(workspace),
        tracking_uri=None,
        **{"stream": io.StringIO(), **settings, **options},
    )


def test_features_are_written_and_what_is_no_image_is_listed(
    workspace: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new folder" / "f.parquet"
    fields = extract(pictures, output=output, workspace=workspace).fields()
    json.dumps(fields, allow_nan=False)
    table = pq.read_table(output)
    assert table.column_names == ["path", "uri", "row", "label", "features"]
    assert table["path"].to_pylist() == [f"{pictures}/{name}.jpg" for name in "abc"]
    assert features_of(table).shape == (3, fields["width"])
    assert features_of(table).any(axis=1).all()
    assert (fields["count"], fields["layer"], fields["global_step"]) == (3, "fc7_relu", 0)
    assert fields["rejected"] == [{"path": f"{pictures}/note.txt", "reason": "not an image"}]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_the_training_images_are_their_own_nearest(
    workspace: Path, dataset: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "train.parquet"
    written = extract(dataset, output=output, workspace=workspace, split="train")
    assert written.count == 20
    found = similar(pictures, among=output, workspace=workspace)
    assert [query.path for query in found.queries] == [f"{pictures}/{name}.jpg" for name in "abc"]
    assert [nearest[0].path for nearest in found.neighbours][:2] == ["7.jpg", "19.jpg"]
    # As a naive search has it; what is computed in another batch differs in its last bits.
    train = features_of(pq.read_table(output)).astype(np.float64)
    queries = tmp_path / "queries.parquet"
    extract(pictures, output=queries, workspace=workspace)
    for number, query in enumerate(features_of(pq.read_table(queries)).astype(np.float64)):
        distances = np.sqrt(np.sum((train - query) ** 2, axis=1))
        order = np.argsort(distances, kind="stable")[:6]
        assert [image.row for image in found.neighbours[number]] == order.tolist()
        np.testing.assert_array_equal(found.distances[number], distances[order])
    # The dataset itself: its training split, computed and not kept.
    again = similar(pictures, among=dataset, workspace=workspace)
    assert again.table.equals(found.table)


def test_the_answer_is_fields_a_table_a_file_and_a_picture(
    workspace: Path, dataset: Path, pictures: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / "s.parquet", tmp_path / "s.csv"]
    picture, stream = tmp_path / "s.png", io.StringIO()
    among = tmp_path / "train.parquet"
    extract(dataset, output=among, workspace=workspace, split="train")
    for output in outputs:
        found = similar(
            pictures, among=among, workspace=workspace, output=str(output), count=2,
            picture=str(picture), stream=stream,
        )  # fmt: skip
    names = ["query", "place", "path", "distance", "label", "uri", "row"]
    assert pq.read_table(outputs[0]).equals(found.table)
    assert found.table.column_names == names
    assert pyarrow.csv.read_csv(outputs[1]).column_names == names
    assert found.table["place"].to_pylist() == [1, 2] * 3
    fields = found.fields(output=None, picture=None)
    json.dumps(fields, allow_nan=False)
    assert [query["path"] for query in fields["queries"]] == found.table["query"].to_pylist()[::2]
    flat = [image for query in fields["queries"] for image in query["neighbours"]]
    assert pa.Table.from_pylist(flat) == found.table.select(
        ["path", "distance", "label", "uri", "row"]
    )
    # A row an image: the first is a training image, and so beside itself.
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape == (3 * 96 + 8, 3 * 96 + 24, 3)
    np.testing.assert_array_equal(drawn[:96, :96], drawn[:96, 116:212])
    assert len(np.unique(drawn[:96, :96])) > 10
    assert "grey" not in stream.getvalue()
    # Features outlive the images they are of.
    shutil.move(dataset / "train", dataset / "elsewhere")
    similar(
        pictures / "a.jpg", among=among, workspace=workspace, picture=str(picture), stream=stream
    )
    assert "grey in the picture: 6 images" in stream.getvalue()
    assert np.all(np.asarray(Image.open(picture))[:, -96:] == 224)


def test_features_of_another_layer_or_model_are_refused(
    workspace: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "fc6.parquet"
    extract(pictures, output=output, workspace=workspace, layer="fc6_relu")
    with pytest.raises(RecipeError, match=r"features of layer fc6_relu, not of fc7") as refusal:
        similar(pictures, among=output, workspace=workspace)
    assert "--layer fc6_relu" in refusal.value.remedy
    found = similar(pictures, among=output, workspace=workspace, layer="fc6_relu")
    assert [nearest[0].path for nearest in found.neighbours] == [
        query.path for query in found.queries
    ]
    table = pq.read_table(output)
    key, described = b"alexnet.features", json.loads(table.schema.metadata[b"alexnet.features"])
    other = json.dumps({**described, "model_digest": "0" * 64})
    pq.write_table(table.replace_schema_metadata({key: other}), output)
    with pytest.raises(RecipeError, match=r"features of another model, .*step-00000000-a0001 \("):
        similar(pictures, among=output, workspace=workspace, layer="fc6_relu")


@pytest.mark.parametrize("name", ["f.csv", "f", ".parquet"])
def test_another_suffix_is_refused_before_all_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"does not end with \.parquet$"):
        extract("no image", output=tmp_path / name, workspace=tmp_path)
    with pytest.raises(RecipeError, match=r"^--picture .* does not end with \.png$"):
        similar("no image", among="x", workspace=tmp_path, picture=str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_is_said_and_leaves_no_file(
    workspace: Path, dataset: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "f.parquet"
    with pytest.raises(RecipeError, match="no layer 'fc9'"):
        extract(pictures, output=output, workspace=workspace, layer="fc9")
    with pytest.raises(RecipeError, match="no split 'test'"):
        extract(pictures, output=output, workspace=workspace, split="test")
    with pytest.raises(InputRejected, match=r"note\.txt is no image: "):
        extract(pictures / "note.txt", output=output, workspace=workspace)
    with pytest.raises(InputRejected, match=r"note\.txt is no image: "):
        similar(pictures / "note.txt", among=dataset, workspace=workspace)
    with pytest.raises(InputRejected, match=r"note\.txt is no image: "):
        similar(pictures, among=pictures / "note.txt", workspace=workspace)
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), empty)
    with pytest.raises(InputRejected, match="there are no images in what was named"):
        extract(empty, output=output, workspace=workspace)
    with pytest.raises(InputRejected, match="there are no images in what was named"):
        similar(empty, among=dataset, workspace=workspace)
    with pytest.raises(InputRejected, match="there are no images in what was named"):
        similar(pictures, among=empty, workspace=workspace)
    with pytest.raises(InputRejected, match="no file or folder gone"):
        similar(pictures, among="gone", workspace=workspace)
    with pytest.raises(
        RecipeError, match="a picture of 4 images with 1,000 neighbours each is too"
    ):
        similar(pictures, among=dataset, workspace=workspace, count=1000, picture=f"{output}.png")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no sound Parquet file"):
        similar(pictures, among=damaged, workspace=workspace)
    assert not output.exists()


def test_more_images_than_fit_into_memory_are_refused(
    workspace: Path, pictures: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.inference.similarity.MOST_QUERY_BYTES", 3 * 8 * 208)
    with pytest.raises(RecipeError, match="4 images are too many") as refusal:
        similar(pictures, among=dataset, workspace=workspace)
    assert refusal.value.remedy == "name at most 3 at a time"
    monkeypatch.setattr("pipelines.inference.similarity.MOST_ANSWERS", 12)
    with pytest.raises(RecipeError, match="4 images are too many") as refusal:
        similar(pictures, among=dataset, workspace=workspace)
    assert refusal.value.remedy == "name at most 2 at a time"


def test_the_commands_print_what_came_of_it(
    workspace: Path, pictures: Path, tmp_path: Path
) -> None:
    words, output = ["demo", str(pictures), "--workspace", str(workspace)], tmp_path / "f.parquet"
    result = CliRunner().invoke(app, ["features", *words, "--output", str(output)])
    assert result.exit_code == 0
    assert result.stdout == f"3 images, 208 activations of fc7_relu each → {output}\n"
    assert "note.txt  not an image" in result.stderr
    result = CliRunner().invoke(app, ["similar", *words, "--among", str(output), "--count", "2"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].split() == [f"{pictures}/a.jpg", "1", "0", f"{pictures}/a.jpg"]
    assert lines[1].split()[0] == "2"
    result = CliRunner().invoke(
        app, ["similar", *words, "--among", str(output), "--json", "--count", "1"]
    )
    assert json.loads(result.stdout)["queries"][0]["neighbours"][0]["distance"] == 0
    table = pipelines.similar("demo", str(pictures), among=str(output), workspace=str(workspace))
    assert table.num_rows == 9
    fields = pipelines.features(
        "demo", str(pictures), output=str(output), layer="fc8", workspace=str(workspace)
    )
    assert fields["width"] == 7


def test_an_interrupted_command_leaves_nothing(
    workspace: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alexnet.inference.features_file.FeaturesWriter.add", interrupted)
    output = tmp_path / "out" / "f.parquet"
    words = ["features", "demo", str(pictures), "-w", str(workspace), "--output", str(output)]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, Interrupted)
    assert result.exception.problem == "interrupted; nothing was written"
    assert list(output.parent.iterdir()) == []
    monkeypatch.setattr("pipelines.inference.similarity_answer.read_again", interrupted)
    similar_words = ["similar", *words[1:5], "--among", str(pictures)]
    table, picture = output.with_name("s.csv"), output.with_name("s.png")
    result = CliRunner().invoke(
        app, [*similar_words, "--output", str(table), "--picture", str(picture)]
    )
    assert isinstance(result.exception, Interrupted)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_no_count_of_neighbours_is_refused_from_python_too(workspace: Path, count: int) -> None:
    with pytest.raises(RecipeError, match="neighbours an image cannot") as caught:
        similar("a.jpg", among="b", workspace=workspace, count=count)
    assert caught.value.remedy == "ask for 1 to 1,000"
