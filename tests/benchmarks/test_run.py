"""The command as a whole, at sizes whose figures mean nothing."""

from pathlib import Path

import pytest

from benchmarks.report import Report
from benchmarks.run import main
from infra.ray_runtime import Resources


def test_a_wrong_size_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--images", "0"])
    assert "images" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_one_run_measures_everything_and_writes_it_down(
    ray_local: Resources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # bare_decode is the base of loader.
    words = ["--quick", "--only", "prepare", "loader", "training_step", "training", "--output"]
    assert main([*words, str(tmp_path)]) == 0
    (document,) = tmp_path.glob("*.json")
    report = Report.model_validate_json(document.read_text())
    assert [series.name for series in report.series] == [
        "prepare",
        "bare decode, beside the loader",
        "loader",
        "training step, plain",
        "training step, ours",
        "training on synthetic data",
        "training on real data",
    ]
    assert {one.name: one.floor for one in report.comparisons if one.floor} == {
        "loader / bare decode": 0.6,
        "training step, ours / plain torch modules": 1.3,
        "training on real / on synthetic data": 0.9,
    }
    table = document.with_suffix(".md").read_text()
    assert table == capsys.readouterr().out
    assert "figures mean nothing" in table
