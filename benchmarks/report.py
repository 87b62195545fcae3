"""All that a run found: the document that is kept, and the table that is read. Pure."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from pydantic import Field

from benchmarks.machine import Commit, Hardware
from benchmarks.passes import Comparison, Pass, Results, Series, ratio_of_medians
from benchmarks.settings import Settings
from infra.commit import Frozen

SCHEMA_VERSION: Final = 1

ACROSS: Final = (
    ("loader", "training on synthetic data"),
    ("training on real data", "training step, ours"),
    ("bare decode", "prepare"),
)
"""Series that different benchmarks make and whose ratio says something: how much a loader with the
machine to itself has to spare, what a loop adds to a step, what making costs beside reading."""


class DatasetFacts(Frozen):
    """What was read."""

    fingerprint: str
    train_count: int
    val_count: int
    bytes_per_image: int
    """Of the train split's files."""


class Report(Frozen):
    """One run of the benchmarks."""

    schema_version: int = SCHEMA_VERSION
    started_at: str
    """ISO 8601, UTC."""
    elapsed_s: float
    hardware: Hardware
    versions: dict[str, str]
    commit: Commit | None
    load_average: tuple[float, float]
    """Of a minute, before and after: 0 at the start where nothing else ran."""
    settings: Settings
    dataset: DatasetFacts
    series: tuple[Series, ...]
    comparisons: tuple[Comparison, ...]
    failures: dict[str, str] = Field(default_factory=dict)
    """Benchmarks that ended with an error, and which; the others stand."""


def with_ratios_across(results: Results) -> Results:
    """Add the ratios between what different benchmarks measured, where both are there."""
    by_name = {series.name: series for series in results.series}
    added = tuple(
        ratio_of_medians(f"{over} / {under}", by_name[over], by_name[under])
        for over, under in ACROSS
        if over in by_name and under in by_name
    )
    return Results(series=results.series, comparisons=results.comparisons + added)


def format_report(report: Report) -> str:
    """Return the report as Markdown, without the single passes."""
    return "\n\n".join(
        [
            "\n".join(_facts(report)),
            format_table(_SERIES_HEAD, [_series_row(series) for series in report.series]),
            format_table(_RATIO_HEAD, [_ratio_row(one) for one in report.comparisons]),
            *(f"**{name} failed**: {problem}" for name, problem in report.failures.items()),
        ]
    )


_SERIES_HEAD: Final = ("images/s", "median", "lowest", "highest", "as a whole", "passes", "images")
_RATIO_HEAD: Final = ("ratio", "median", "lowest", "highest", "floor", "")


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table whose first column is text and whose others are numbers."""
    rows = [list(row) for row in rows]
    widths = [max(2, *(len(row[i]) for row in [list(head), *rows])) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(cells) for cells in [head, rule, *rows])


def _facts(report: Report) -> list[str]:
    hardware, settings, dataset = report.hardware, report.settings, report.dataset
    gpus = ", ".join(hardware.gpus) or "no GPU"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    commit = report.commit
    state = "unknown" if commit is None else commit.id[:12] + ", modified" * commit.modified
    before, after = report.load_average
    return [
        f"{report.started_at}, commit {state}, {report.elapsed_s / 60:.0f} min,"
        f" load {before} before and {after} after",
        f"{hardware.cpu}, {hardware.cpus} CPUs, {hardware.memory_gib:g} GiB, {gpus}",
        versions,
        *(["tiny sizes, to see that everything runs: the figures mean nothing"] * settings.quick),
        f"{settings.archives}: {dataset.train_count:,} + {dataset.val_count:,} images of"
        f" {settings.stored_px} px, q{settings.quality}, {dataset.bytes_per_image:,} bytes each;"
        f" crops of {settings.crop_px} px; alexnet-2012, width {settings.width:g},"
        f" batch {settings.global_batch}",
    ]


def _series_row(series: Series) -> list[str]:
    rates = [one.rate(series.quantity) for one in series.passes]
    whole = median(one.whole for one in series.passes)
    return [
        f"{series.name} ({series.quantity})",
        *(_rate(value) for value in (series.median, min(rates), max(rates), whole)),
        str(len(series.passes)),
        f"{_largest(series.passes):,}",
    ]


def _ratio_row(comparison: Comparison) -> list[str]:
    ratios = comparison.ratios
    floor = "" if comparison.floor is None else f"{comparison.floor:.2f}"
    verdict = {None: "", True: "holds", False: "MISSED"}[comparison.holds]
    values = (comparison.median, min(ratios), max(ratios))
    return [comparison.name, *(_ratio(value) for value in values), floor, verdict]


def _largest(passes: Sequence[Pass]) -> int:
    return max(one.images for one in passes)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"
