import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from typer.testing import CliRunner

from alexnet.evaluate.counts import count_rows
from alexnet.evaluate.evaluation import RECEIPT, Evaluation, accuracy_of
from alexnet.evaluate.metrics import judge_rows
from alexnet.evaluate.rows import BlockResult, View
from alexnet.evaluate.tables import PREDICTIONS, predictions_table
from infra.commit import write_object
from infra.errors import DataError, RecipeError
from infra.parquet import parquet_bytes, read_parquet
from infra.store import FolderStore
from pipelines import api
from pipelines.cli import app

COUNT, CLASSES = 60, 7


def write_evaluation(
    folder: Path, seed: int, *, digest: str = "1" * 64, views: Sequence[View] = ("center",)
) -> str:
    """Evaluate a network that draws its answers; labels are the same for all."""
    labels = np.arange(COUNT) % CLASSES
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for view in views:
        logits = torch.randn(COUNT, CLASSES, generator=generator)
        logits[torch.arange(COUNT), torch.from_numpy(labels)] += 1.0
        rows[view] = judge_rows(torch.log_softmax(logits, dim=1), torch.from_numpy(labels))
    result = BlockResult(np.arange(COUNT), labels, rows)
    counted = {view: accuracy_of(count_rows(labels, r, CLASSES)) for view, r in rows.items()}
    store = FolderStore(folder)
    evaluation = Evaluation(
        key=folder.name,
        dataset_fingerprint="f" * 64,
        validation_digest=digest,
        classes_digest="2" * 64,
        checkpoint_digest=f"{seed:064}",
        step=9,
        count=COUNT,
        center=counted["center"],
        ten_crop=counted.get("ten_crop"),
        per_class=write_object(store, "per_class.parquet", b"x"),
        confusion=write_object(store, "confusion.parquet", b"x"),
        predictions=write_object(store, PREDICTIONS, parquet_bytes(predictions_table(result))),
    )
    store.create(RECEIPT, evaluation.to_bytes())
    return str(folder)


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    return [write_evaluation(tmp_path / name, seed) for seed, name in enumerate("abc")]


def kept(folder: str, column: str = "center_probabilities") -> npt.NDArray[np.float64]:
    body = (Path(folder) / PREDICTIONS).read_bytes()
    return np.array(read_parquet(body)[column].to_pylist(), np.float64)


def test_the_average_of_three_is_counted(three: list[str]) -> None:
    found = api.ensemble(three)
    labels = np.arange(COUNT) % CLASSES
    mean = np.mean([kept(folder) for folder in three], axis=0)
    right = int((mean.argmax(axis=1) == labels).sum())
    assert (found["count"], found["ensemble"]["correct1"]) == (COUNT, right)
    assert found["ensemble"]["top1"] == right / COUNT
    low, high = found["ensemble"]["top1_interval"]
    assert low < right / COUNT < high
    assert [member["uri"] for member in found["members"]] == three
    assert [member["weight"] for member in found["members"]] == [1 / 3] * 3
    assert found["ensemble"]["correct1"] > max(m["correct1"] for m in found["members"])
    assert found["search"] is None


def test_weights_are_taken_in_the_order_of_the_evaluations(three: list[str]) -> None:
    one = api.ensemble(three[:2], weights=[0, 1])
    assert one["ensemble"]["correct1"] == one["members"][1]["correct1"]
    assert one["ensemble"]["correct5"] == one["members"][1]["correct5"]
    small = api.ensemble(three[:2], weights=[1e-5, 1])  # as Python writes 0.00001
    assert small["members"][0]["weight"] == 1 / 100_001
    mixed = api.ensemble(three, weights="0.5, 0.3,0.2")
    assert [member["weight"] for member in mixed["members"]] == [0.5, 0.3, 0.2]


def test_what_is_written_is_like_an_evaluations_predictions(
    three: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "new" / "mean.parquet"
    found = api.ensemble(three, output=str(output))
    table = read_parquet(output.read_bytes())
    assert table.schema == read_parquet((Path(three[0]) / PREDICTIONS).read_bytes()).schema
    assert table["sample_id"].to_pylist() == list(range(COUNT))
    assert (table["center_rank"].to_numpy() == 0).sum() == found["ensemble"]["correct1"]
    mean = np.mean([kept(folder) for folder in three], axis=0)
    written = np.array(table["center_probabilities"].to_pylist())
    np.testing.assert_allclose(written, mean, atol=2**-11)


def test_a_search_says_what_its_weights_are_worth_on_the_other_half(three: list[str]) -> None:
    found, equal = api.ensemble(three, search=True), api.ensemble(three)
    assert found["ensemble"]["correct5"] >= equal["ensemble"]["correct5"]
    half = found["search"]
    assert half["searched_on"]["count"] == half["held_out"]["count"] == COUNT // 2
    assert sum(half["weights"]) == pytest.approx(1)
    odd = np.arange(1, COUNT, 2)
    mean = np.tensordot(half["weights"], [kept(folder)[odd] for folder in three], axes=1)
    right = int((mean.argmax(axis=1) == odd % CLASSES).sum())
    assert half["held_out"]["correct1"] == right
    plain = np.mean([kept(folder)[odd] for folder in three], axis=0)
    right = int((plain.argmax(axis=1) == odd % CLASSES).sum())
    assert half["held_out_equal_weights"]["correct1"] == right


def test_another_view_is_averaged_where_all_have_it(tmp_path: Path, three: list[str]) -> None:
    both = [
        write_evaluation(tmp_path / name, seed, views=("center", "ten_crop"))
        for seed, name in enumerate("de", start=5)
    ]
    mean = np.mean([kept(folder, "ten_crop_probabilities") for folder in both], axis=0)
    right = int((mean.argmax(axis=1) == np.arange(COUNT) % CLASSES).sum())
    assert api.ensemble(both, view="ten_crop")["ensemble"]["correct1"] == right
    with pytest.raises(DataError, match="has no view ten_crop, only center"):
        api.ensemble([*both, three[0]], view="ten_crop")


def test_evaluations_of_other_images_are_refused_by_name(tmp_path: Path, three: list[str]) -> None:
    other = write_evaluation(tmp_path / "other", 9, digest="2" * 64)
    with pytest.raises(RecipeError, match=f"{three[0]} and {other} are evaluations of different"):
        api.ensemble([three[0], three[1], other])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"weights": "1,2"}, "2 weights for 3 evaluations"),
        ({"weights": [1, 1e-20, 1]}, "too many digits"),
        ({"weights": [1, float("nan"), 1]}, "'nan' is no number"),
        ({"weights": "1,1e-5,1"}, "'1e-5' is not written as"),
        ({"weights": "1,1e999999999,1"}, "'1e999999999' is not written as"),
        ({"weights": "1,x,1"}, "'x' is no number"),
        ({"weights": "1,1/0,1"}, "'1/0' is no number"),
        ({"weights": "-1,1,1"}, "0 or more"),
        ({"weights": "0,0,0"}, "not all 0"),
        ({"weights": "1,1,1", "search": True}, "--search finds"),
        ({"view": "nine"}, "no view 'nine'"),
        ({"output": "mean.csv"}, "does not end with .parquet"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    three: list[str], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError, match=problem):
        api.ensemble(three, **options)


def test_one_alone_or_one_twice_is_no_ensemble(three: list[str]) -> None:
    with pytest.raises(RecipeError, match="two or more"):
        api.ensemble(three[:1])
    with pytest.raises(RecipeError, match="named twice"):
        api.ensemble([three[0], three[1], three[0]])


def test_the_command_prints_members_and_mixture(three: list[str], tmp_path: Path) -> None:
    runner, place = CliRunner(), ["--workspace", str(tmp_path)]
    text = runner.invoke(app, ["ensemble", *three, "--search", *place]).stdout.splitlines()
    assert text[0].split() == ["centre", "weight", "top-1", "top-5", "loss"]
    assert [line.split()[0] for line in text[1:5]] == [*three, "ensemble"]
    assert any(line.startswith("equal weights, on the other half") for line in text)
    printed = runner.invoke(app, ["ensemble", *three, "--json", *place]).stdout
    assert json.loads(printed) == api.ensemble(three, workspace=str(tmp_path))
