"""The ablations' command: what it runs, what it keeps, and one small series for real."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from receipt_runs import a_run

from alexnet.receipt.elements import ablations
from alexnet.receipt.measured import BASELINE, Measurements, Run
from benchmarks.receipt import ELEMENTS, Product, main, measure, read_recorded, write


class Pretended(Product):
    """Answers at once: the error of each network is known; colour noise cannot be left out."""

    def ask(self, command: str, settings: Sequence[str] = ()) -> dict[str, Any]:
        assert command == "prepare"
        return {"fingerprint": "ab" * 32, "train": {"count": 640}, "val": {"count": 80}}

    def run(self, element: str, seed: int) -> Run:
        if element == "colour-noise":
            raise RuntimeError("alexnet evaluate ended with 3: the loss is no number")
        return a_run(element, seed, 20 + seed, 18 + seed, count=80)


def pretended() -> Pretended:
    return Pretended(
        recipe="receipt", workspace="nowhere", place=("dataset.archives=/data/some",), settings=()
    )


def test_what_is_left_out_unasked_can_be_left_out() -> None:
    assert all(ablations()[name].settings for name in ELEMENTS)


def test_pairs_are_soon_complete_and_everything_is_kept_after_each_run(tmp_path: Path) -> None:
    series = list(measure(pretended(), ["dropout", "two-towers"], range(2)))
    assert [len(measured.runs) for measured in series] == [1, 2, 3, 4, 5, 6]
    last = series[-1]
    assert [(run.element, run.seed) for run in last.runs] == [
        (BASELINE, 0), ("dropout", 0), ("two-towers", 0),
        (BASELINE, 1), ("dropout", 1), ("two-towers", 1),
    ]  # fmt: skip
    assert last.archives == "some"
    path = write(last, tmp_path)
    assert Measurements.model_validate_json(path.read_bytes()) == last
    assert "/data" not in path.read_text()
    assert "| dropout |" in path.with_suffix(".md").read_text()


def test_a_run_that_fails_is_named_and_the_others_stand() -> None:
    *_, last = measure(pretended(), ["colour-noise", "dropout"], range(1))
    assert [run.element for run in last.runs] == [BASELINE, "dropout"]
    assert list(last.failures) == ["colour-noise, seed 0"]


def test_runs_of_other_elements_that_are_recorded_stay(tmp_path: Path) -> None:
    *_, first = measure(pretended(), ["dropout", "two-towers"], range(2))
    write(first, tmp_path)
    recorded = read_recorded(tmp_path)
    assert recorded == first
    series = list(measure(pretended(), ["biases-of-one", "dropout"], range(1), recorded))
    assert len(series) == 3
    # None is ever missing, not even while the command runs.
    known = {(run.element, run.seed) for run in first.runs}
    for measured in series:
        assert {(run.element, run.seed) for run in measured.runs} >= known
    assert [(run.element, run.seed) for run in series[-1].runs] == [
        (BASELINE, 0), ("two-towers", 0), ("biases-of-one", 0), ("dropout", 0),
        (BASELINE, 1), ("dropout", 1), ("two-towers", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("element", "made"), [(BASELINE, 0), ("two-towers", 2)])
def test_runs_of_two_versions_are_not_paired(tmp_path: Path, element: str, made: int) -> None:
    """Not written either: the first that comes out otherwise ends the command."""
    *_, first = measure(pretended(), ["dropout", "two-towers"], range(1))
    recorded = tuple(
        run.model_copy(update={"weights_sha256": "2" * 64}) if run.element == element else run
        for run in first.runs
    )
    series = measure(
        pretended(),
        ["dropout", "two-towers"],
        range(1),
        first.model_copy(update={"runs": recorded}),
    )
    for _ in range(made):
        assert set(next(series).runs) == set(recorded)
    with pytest.raises(RuntimeError, match=f"{element}, seed 0, has other weights than recorded"):
        next(series)


@pytest.mark.parametrize(
    "changes",
    [{"recipe": "demo"}, {"settings": ("train.epochs=1",)}, {"dataset_fingerprint": "cd" * 32}],
)
def test_another_series_is_not_written_over(changes: dict[str, object]) -> None:
    *_, first = measure(pretended(), ["dropout"], range(1))
    with pytest.raises(RuntimeError, match="--output has runs of another series"):
        next(measure(pretended(), ["dropout"], range(1), first.model_copy(update=changes)))


def test_an_unknown_element_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--elements", "luck"])
    assert "response-norm" in capsys.readouterr().err


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_series_is_trained_by_the_product_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = (
        "dataset.drawn.train_per_class=20", "dataset.drawn.val_per_class=5", "prepare.stored_px=48",
        "train.augment.crop_px=40", "train.epochs=1", "model.width=0.1",
    )  # fmt: skip
    words = ["--archives", "drawn", "--seeds", "1"]
    words += ["--workspace", str(tmp_path / "work"), "--output", str(tmp_path / "out")]
    words += [word for one in tiny for word in ("--set", one)]
    assert main([*words, "--elements", "dropout"]) == 0
    first = json.loads((tmp_path / "out" / "receipt.json").read_text())
    baseline, without = first["runs"]
    assert (baseline["element"], without["element"]) == ("baseline", "dropout")
    assert baseline["count"] == without["count"] == 50
    assert baseline["weights_sha256"] != without["weights_sha256"]
    assert without["settings"] == ["model.dropout=0", "train.seed=0"]
    assert str(tmp_path) not in json.dumps(first)
    assert "| ten-crops |" in capsys.readouterr().out

    runs = len(list((tmp_path / "work" / "runs").iterdir()))
    # One of them is asked for again; the other stays as it is recorded.
    assert main([*words, "--elements"]) == 0
    assert json.loads((tmp_path / "out" / "receipt.json").read_text())["runs"] == first["runs"]
    assert len(list((tmp_path / "work" / "runs").iterdir())) == runs == 2
