"""What a run of `speed` found, and the tables that are read. Pure."""

from statistics import median
from typing import Final

from benchmarks.machine import Commit, Hardware
from benchmarks.preprocessing.breakdown import BARE, added_share
from benchmarks.preprocessing.measured import Measured
from benchmarks.preprocessing.ours import Commands
from benchmarks.report import format_table
from infra.commit import Frozen

_HEAD: Final = (
    "images a second a core", "clock", "steady", "CPU second", "/ bare, clock", "/ bare, steady",
    "/ bare, CPU",
    "/ bare, CPU, steady", "MiB a worker",
)  # fmt: skip


OURS: Final = "ours, "
"""How the names of our builds begin."""


class Candidate(Frozen):
    """Something that was measured in turn with the bare loop."""

    name: str
    passes: tuple[Measured, ...]
    by_clock: tuple[float, ...]
    """Of each pass: its images a second a core over the mean of the bare loop around it."""
    by_cpu: tuple[float, ...]
    """The same by CPU seconds."""

    @property
    def by_clock_steady(self) -> tuple[float, ...]:
        """As `by_clock`, from 20 % to 90 % of a build."""
        return tuple(
            ratio * one.elapsed_s / one.steady_s
            for ratio, one in zip(self.by_clock, self.passes, strict=False)
            if one.steady_s is not None
        )

    @property
    def by_cpu_steady(self) -> tuple[float, ...]:
        """As `by_cpu`, from 20 % to 90 % of a build: what counts in a build of a million images."""
        return tuple(
            ratio * one.cpu_s / one.steady_cpu_s
            for ratio, one in zip(self.by_cpu, self.passes, strict=False)
            if one.steady_cpu_s
        )


class SourceReport(Frozen):
    """Of one set of images."""

    name: str
    images: int
    bytes_per_image: int
    rows_per_shard: int
    base: Candidate
    candidates: tuple[Candidate, ...]
    steps_us: dict[str, float]
    """Microseconds of CPU an image."""
    command: Commands
    estimated_cpu_s: float
    """What `prepare --estimate` says a build takes."""

    @property
    def estimate_over_builds(self) -> tuple[float, ...]:
        """The estimate over each build's CPU seconds, Ray's start and the commit counted in."""
        builds = (one for one in self.candidates if one.name.startswith(OURS))
        return tuple(self.estimated_cpu_s / taken.cpu_s for one in builds for taken in one.passes)


class SpeedReport(Frozen):
    """One run."""

    started_at: str
    """ISO 8601, UTC."""
    hardware: Hardware
    versions: dict[str, str]
    commit: Commit | None
    load_average: tuple[float, float]
    """Of a minute, before and after."""
    has_others: bool
    """Whether Streaming and LitData were there to be measured."""
    sources: tuple[SourceReport, ...]


def format_speed(report: SpeedReport) -> str:
    """Return the report as Markdown, medians only."""
    hardware, commit = report.hardware, report.commit
    state = "unknown" if commit is None else commit.id[:12] + ", modified" * commit.modified
    before, after = report.load_average
    facts = "\n".join(
        [
            f"{report.started_at}, commit {state}, load {before} before and {after} after",
            f"{hardware.cpu}, {hardware.cpus} CPUs, {hardware.memory_gib:g} GiB",
            ", ".join(f"{name} {number}" for name, number in report.versions.items()),
            *(
                ["MosaicML Streaming and LitData left out: no --python that has them"]
                * (not report.has_others)
            ),
        ]
    )
    return "\n\n".join([facts, *(_format_source(source) for source in report.sources)])


def _format_source(source: SourceReport) -> str:
    command = source.command
    rows = [_row(one) for one in (source.base, *source.candidates)]
    bare_us = sum(source.steps_us[name] for name in BARE)
    steps = [[name, f"{us:.0f}", f"{us / bare_us:.0%}"] for name, us in source.steps_us.items()]
    return "\n\n".join(
        [
            f"**{source.name}**: {source.images:,} images of {source.bytes_per_image:,} bytes,"
            f" {source.rows_per_shard:,} a shard; the"
            f" command from nothing {command.first_s:.1f} s and {_mib([command.peak_bytes])} MiB"
            f" in its own process, again {command.again_s:.1f} s",
            format_table(_HEAD, rows),
            format_table(("step, 1 thread", "us of CPU an image", "of the bare loop"), steps),
            f"added to the bare loop: {added_share(source.steps_us):.0%}; so a build can reach"
            f" {1 / (1 + added_share(source.steps_us)):.2f} of it, less what Ray and a shard's sums"
            " and receipt cost",
            f"`--estimate` said {source.estimated_cpu_s:.1f} s of CPU, of what builds took"
            f" {_ratio(source.estimate_over_builds) or 'nothing is known'}",
        ]
    )


def _row(one: Candidate) -> list[str]:
    steady = [each.steady_per_core for each in one.passes if each.steady_per_core is not None]
    return [
        one.name,
        f"{median(each.per_core for each in one.passes):,.0f}",
        f"{median(steady):,.0f}" if steady else "",
        f"{median(each.per_cpu_s for each in one.passes):,.0f}",
        _ratio(one.by_clock),
        _ratio(one.by_clock_steady),
        _ratio(one.by_cpu),
        _ratio(one.by_cpu_steady),
        _mib([each.peak_worker_bytes for each in one.passes]),
    ]


def _ratio(ratios: tuple[float, ...]) -> str:
    if not ratios:
        return ""
    return f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def _mib(sizes: list[int | None]) -> str:
    known = [size for size in sizes if size]
    return f"{max(known) / 2**20:,.0f}" if known else ""
