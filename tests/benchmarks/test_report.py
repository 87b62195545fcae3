import pytest

from benchmarks import machine
from benchmarks.machine import Commit, Hardware, read_commit, read_hardware, read_versions
from benchmarks.passes import Comparison, Pass, Results, Series
from benchmarks.report import (
    DatasetFacts,
    Report,
    format_report,
    format_table,
    with_ratios_across,
)
from benchmarks.settings import Settings


def series(name: str, *rates: float) -> Series:
    passes = [Pass(images=5000, elapsed_s=5000 / r, whole=r, steady=2 * r) for r in rates]
    return Series(name=name, what="", quantity="steady", passes=tuple(passes), median=2 * rates[0])


def a_report(results: Results) -> Report:
    return Report(
        started_at="2026-01-02T03:04:05+00:00",
        elapsed_s=120.0,
        hardware=Hardware(cpu="A CPU", cpus=2, memory_gib=24.0, gpus=()),
        versions={"python": "3.11.7"},
        commit=Commit(id="0123456789abcdef", modified=True),
        load_average=(0.1, 1.9),
        settings=Settings(),
        dataset=DatasetFacts(
            fingerprint="0" * 64, train_count=5000, val_count=500, bytes_per_image=19_000
        ),
        series=results.series,
        comparisons=results.comparisons,
    )


RESULTS = with_ratios_across(
    Results(
        series=(
            series("bare decode", 1000.0),
            series("prepare", 40.0),
            series("loader", 600.0, 500.0),
        ),
        comparisons=(
            Comparison(name="loader / bare decode", ratios=(0.5, 0.59), median=0.59, floor=0.6),
        ),
    )
)


def test_the_report_survives_its_own_json() -> None:
    report = a_report(RESULTS)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_table_shows_rates_ratios_floors_and_what_they_were_measured_on() -> None:
    text = format_report(a_report(RESULTS))
    for words in (
        "commit 0123456789ab, modified, 2 min, load 0.1 before and 1.9 after",
        "A CPU, 2 CPUs, 24 GiB, no GPU",
        "drawn: 5,000 + 500 images of 256 px, q90, 19,000 bytes each",
        "| loader (steady)      |  1,200 |  1,000 |   1,200 |        550 |      2 |  5,000 |",
        "| loader / bare decode  |   0.59 |   0.50 |    0.59 |  0.60 | MISSED |",
        "| bare decode / prepare |  25.00 |  25.00 |   25.00 |       |        |",
    ):
        assert words in text


def test_ratios_across_benchmarks_need_both() -> None:
    assert [one.name for one in RESULTS.comparisons] == [
        "loader / bare decode",
        "bare decode / prepare",
    ]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert format_table(("a", "b"), [("long", "1"), ("x", "22")]) == (
        "| a    |  b |\n| ---- | -: |\n| long |  1 |\n| x    | 22 |"
    )


def test_this_machine_can_be_described() -> None:
    assert read_hardware().cpus >= 1
    assert {"python", "torch", "ray", "pyarrow", "simplejpeg", "numpy"} <= read_versions().keys()
    commit = read_commit()
    assert commit is None or len(commit.id) == 40


def test_a_library_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("torch", "no-such-library"))
    assert list(read_versions()) == ["python", "torch"]


def test_what_failed_is_said_below_what_was_measured() -> None:
    report = a_report(RESULTS).model_copy(update={"failures": {"training": "the loss is nan"}})
    text = format_report(report)
    assert text.startswith(format_report(a_report(RESULTS)))
    assert text.endswith("**training failed**: the loss is nan")
