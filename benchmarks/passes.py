"""A pass and its rates, and what two kinds of passes, taken in turn, say of each other. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, Literal, NamedTuple

from infra.commit import Frozen

STEADY_FROM: Final = 0.2
STEADY_TO: Final = 0.9

Quantity = Literal["whole", "steady"]


class Stamp(NamedTuple):
    """How far a stream of images was at a moment."""

    at_s: float
    """Of `time.perf_counter`, which all processes of a Linux machine share."""
    images: int
    """Images done by then, since the pass began."""


class Pass(Frozen):
    """One measurement from start to end."""

    images: int
    elapsed_s: float
    whole: float
    """Images a second from the order to begin until the last image."""
    steady: float | None
    """Images a second from STEADY_FROM to STEADY_TO of the images; none: too few stamps."""

    def rate(self, quantity: Quantity) -> float:
        """Return images a second.

        Raises:
            ValueError: the steady rate of a pass that has none.
        """
        if quantity == "whole":
            return self.whole
        if self.steady is None:
            raise ValueError("the pass is too short for a steady rate")
        return self.steady


class Series(Frozen):
    """Several passes of the same thing."""

    name: str
    what: str
    """Exactly what is done to an image, in a sentence or two."""
    quantity: Quantity
    passes: tuple[Pass, ...]
    median: float
    """Images a second, of `quantity`."""


class Comparison(Frozen):
    """A candidate over its base, each pass over the mean of the base's passes around it."""

    name: str
    ratios: tuple[float, ...]
    median: float
    floor: float | None
    """The least that the median should be; none: shown to be seen."""

    @property
    def holds(self) -> bool | None:
        """Whether the floor is reached, if there is one."""
        return None if self.floor is None else self.median >= self.floor


class Results(Frozen):
    """What one benchmark found."""

    series: tuple[Series, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something whose passes can be taken."""

    name: str
    what: str
    take: Callable[[], Pass]


def make_pass(started_s: float, streams: Sequence[Sequence[Stamp]]) -> Pass:
    """Sum up streams that ran at the same time, one or one a process; none may be empty.

    Args:
        started_s: when the first was told to begin.
        streams: each one's stamps, in order; the last of each is its end.
    """
    images = sum(stamps[-1].images for stamps in streams)
    elapsed_s = max(stamps[-1].at_s for stamps in streams) - started_s
    rates = [rate for stamps in streams if (rate := steady_rate(stamps)) is not None]
    return Pass(
        images=images,
        elapsed_s=elapsed_s,
        whole=images / elapsed_s,
        steady=sum(rates) if len(rates) == len(streams) else None,
    )


def steady_rate(stamps: Sequence[Stamp]) -> float | None:
    """Return images a second from 20 % to 90 % of a stream; none: no two stamps lie so apart."""
    total = stamps[-1].images
    first = next(stamp for stamp in stamps if stamp.images >= STEADY_FROM * total)
    last = next(stamp for stamp in stamps if stamp.images >= STEADY_TO * total)
    if last.at_s <= first.at_s:
        return None
    return (last.images - first.images) / (last.at_s - first.at_s)


def compare(
    name: str,
    base: Subject,
    candidate: Subject,
    *,
    quantity: Quantity,
    num_passes: int,
    floor: float | None = None,
) -> Results:
    """Take passes in turn: base, candidate, base, …, base; so a machine that drifts cancels out."""
    bases, candidates = [base.take()], []
    for _ in range(num_passes):
        candidates.append(candidate.take())
        bases.append(base.take())
    ratios = ratios_of(bases, candidates, quantity)
    return Results(
        series=(
            make_series(base, quantity, bases),
            make_series(candidate, quantity, candidates),
        ),
        comparisons=(Comparison(name=name, ratios=ratios, median=median(ratios), floor=floor),),
    )


def ratios_of(
    bases: Sequence[Pass], candidates: Sequence[Pass], quantity: Quantity
) -> tuple[float, ...]:
    """Divide each candidate by the mean of the base before and the base after it."""
    around = [
        (before.rate(quantity) + after.rate(quantity)) / 2 for before, after in pairwise(bases)
    ]
    return tuple(
        candidate.rate(quantity) / base for candidate, base in zip(candidates, around, strict=True)
    )


def make_series(subject: Subject, quantity: Quantity, passes: Sequence[Pass]) -> Series:
    """Name passes and take their median."""
    return Series(
        name=subject.name,
        what=subject.what,
        quantity=quantity,
        passes=tuple(passes),
        median=median(one.rate(quantity) for one in passes),
    )


def ratio_of_medians(name: str, over: Series, under: Series) -> Comparison:
    """Compare what was not measured in turn; a machine that drifted in between shows in it."""
    ratio = over.median / under.median
    return Comparison(name=name, ratios=(ratio,), median=ratio, floor=None)


def joined(parts: Iterable[Results]) -> Results:
    """Put what several benchmarks found into one."""
    parts = list(parts)
    return Results(
        series=tuple(series for part in parts for series in part.series),
        comparisons=tuple(one for part in parts for one in part.comparisons),
    )
