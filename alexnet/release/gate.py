"""Stage 9 of 11, gate: pure; evaluation, champion, thresholds → verdict with reasons.

Everything is judged by the **centre** view: every evaluation has it (ten crops are optional), so
all versions of a model compare in the same terms; it is what the registered model answers with
unless asked, and what `val/top1` shows, a single point, of the last checkpoint.
"""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.evaluation import Evaluation
from alexnet.release.settings import GateSettings
from infra.commit import Frozen, parse_receipt
from infra.errors import DataError, RecipeError
from preprocessing.dataset.labels import Classes

SIGNIFICANCE: Final = 0.05

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """An evaluated model, with what it made of each image (centre view)."""

    name: str
    """For messages: a run, or a version of the registry."""
    evaluation: Evaluation
    sample_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    correct: Flags
    seen_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Images that it was trained on: against a rival they count for neither."""
    note: str = ""
    """What else there is to say of the comparison."""

    @property
    def top1(self) -> Fraction:
        """Exact fraction of the images that it gets right."""
        return Fraction(int(self.correct.sum()), len(self.correct))

    def without(self, sample_ids: npt.NDArray[np.int64]) -> "Contender":
        """Leave images out; the evaluation stays that of all."""
        rest = ~np.isin(self.sample_ids, sample_ids)
        return replace(
            self,
            sample_ids=self.sample_ids[rest],
            labels=self.labels[rest],
            correct=self.correct[rest],
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both on the images that the champion was not trained on."""

    candidate: Contender
    champion: Contender


class Regression(Frozen):
    """A class that the champion recognises better, beyond chance."""

    label: int
    name: str
    count: int
    champion_correct: int
    candidate_correct: int
    p: float


class Verdict(Frozen):
    """What the gate said, and why."""

    schema_version: Literal[1] = 1
    verdict: Literal["accepted", "refused"]
    reasons: tuple[str, ...]
    """For a refusal what was missed; otherwise what it was held against."""
    champion: str | None
    """Version that was champion: compared with, unless it is this very network."""
    top1: float
    champion_top1: float | None
    mcnemar_p: float | None
    """Chance of so many images lost to the champion if both were equally good."""
    per_class_regressions: tuple[Regression, ...]

    @property
    def accepted(self) -> bool:
        """Whether the model may become champion."""
        return self.verdict == "accepted"


def parse_verdict(body: bytes, where: str) -> Verdict:
    """Read what `to_bytes` wrote at a place; ObjectCorrupt for anything else."""
    return parse_receipt(Verdict, body, where, remedy="delete the gate's folder and run again")


def judge(
    candidate: Contender,
    champion: Contender | None,
    settings: GateSettings,
    classes: Classes,
    *,
    itself: str | None = None,
) -> Verdict:
    """Decide whether a candidate may take the champion's place, or be the first.

    Refused if its top-1 is below `min_top1` or below the champion's plus `min_gain`, or if the
    champion is better by a one-sided exact McNemar test at SIGNIFICANCE. Images that the champion
    was trained on are left out of what is compared with it; if none remains it stays champion.

    Args:
        candidate: the network in question.
        champion: whom it must not fall behind; None if there is none, or it is `itself`.
        settings: the thresholds.
        classes: of both.
        itself: the champion's version, if that is this very network: better than itself it need
            not be.

    Raises:
        RecipeError: the champion tells other classes apart.
        DataError: it was evaluated on other images: evaluate it on the candidate's first.
    """
    pair = None
    if champion is not None:
        _check_comparable(candidate, champion)
        pair = _Pair(candidate.without(champion.seen_ids), champion.without(champion.seen_ids))
    misses = _misses(candidate.top1, pair, settings)
    reasons = misses or (_standing(candidate.top1, pair, settings, itself),)
    note = champion.note if champion else ""
    return Verdict(
        verdict="refused" if misses else "accepted",
        reasons=(*reasons, note) if note else reasons,
        champion=champion.name if champion else itself,
        top1=candidate.evaluation.center.top1,
        champion_top1=champion.evaluation.center.top1 if champion else None,
        mcnemar_p=mcnemar_p(pair.candidate.correct, pair.champion.correct) if pair else None,
        per_class_regressions=find_regressions(pair.candidate, pair.champion, classes)
        if pair
        else (),
    )


def mcnemar_p(candidate: Flags, champion: Flags) -> float:
    """Test exactly, one-sided, whether the champion is better; which images are right, (n,) each.

    Of the images that only one of the two gets right, each is as likely either one's if they are
    equally good: p is the chance that the champion has at least as many of them as it has.
    """
    won, lost = int((candidate & ~champion).sum()), int((champion & ~candidate).sum())
    return binomial_tail(lost, won + lost)


def binomial_tail(least: int, tosses: int) -> float:
    """Chance of at least so many heads in so many tosses of a fair coin, by exact integers."""
    ways = total = math.comb(tosses, least)
    for heads in range(least, tosses):
        ways = ways * (tosses - heads) // (heads + 1)
        total += ways
    return total / (1 << tosses)


def find_regressions(
    candidate: Contender, champion: Contender, classes: Classes
) -> tuple[Regression, ...]:
    """List the classes that got worse, by the same test within each class.

    The level is SIGNIFICANCE over the number of classes (Bonferroni): of a thousand classes fifty
    would seem worse by chance.
    """
    found = []
    for entry in classes.classes:
        rows = candidate.labels == entry.label
        mine, theirs = candidate.correct[rows], champion.correct[rows]
        p = mcnemar_p(mine, theirs)
        if p < SIGNIFICANCE / len(classes):
            regression = Regression(
                label=entry.label,
                name=entry.name,
                count=int(rows.sum()),
                champion_correct=int(theirs.sum()),
                candidate_correct=int(mine.sum()),
                p=p,
            )
            found.append(regression)
    return tuple(found)


def _misses(top1: Fraction, pair: _Pair | None, settings: GateSettings) -> tuple[str, ...]:
    misses = []
    if top1 < _decimal(settings.min_top1):
        misses.append(f"top-1 {float(top1):.4f} is below gate.min_top1 {settings.min_top1}")
    if pair is None:
        return tuple(misses)
    mine, theirs = pair.candidate, pair.champion
    if not len(theirs.correct):
        return (*misses, f"champion {theirs.name} was trained on all of these images")
    if mine.top1 < theirs.top1 + _decimal(settings.min_gain):
        misses.append(
            f"top-1 {float(mine.top1):.4f} is below champion {theirs.name}'s "
            f"{float(theirs.top1):.4f} plus gate.min_gain {settings.min_gain}"
        )
    p = mcnemar_p(mine.correct, theirs.correct)
    if p < SIGNIFICANCE:
        misses.append(f"champion {theirs.name} is better, McNemar's exact p = {p:.2g}")
    return tuple(misses)


def _standing(
    top1: Fraction, pair: _Pair | None, settings: GateSettings, itself: str | None
) -> str:
    said = f"top-1 {float(top1):.4f} reaches gate.min_top1 {settings.min_top1}"
    if itself is not None:
        return f"{said}; champion {itself} is this very network"
    if pair is None:
        return f"{said}; there is no champion"
    mine, theirs = pair.candidate, pair.champion
    own = "" if mine.top1 == top1 else f"{float(mine.top1):.4f} reaches "
    return (
        f"{said}, and {own}champion {theirs.name}'s {float(theirs.top1):.4f} plus "
        f"gate.min_gain {settings.min_gain}"
    )


def _decimal(value: float) -> Fraction:
    # As it was written: 0.1 is a tenth, so that exactly reaching a threshold is reaching it.
    return Fraction(repr(value))


def _check_comparable(candidate: Contender, champion: Contender) -> None:
    mine, theirs = candidate.evaluation, champion.evaluation
    if mine.classes_digest != theirs.classes_digest:
        raise RecipeError(
            f"{candidate.name} and champion {champion.name} tell different classes apart "
            f"({mine.classes_digest[:12]}, {theirs.classes_digest[:12]})",
            remedy="register it under another name: register.model_name",
        )
    same_images = np.array_equal(candidate.sample_ids, champion.sample_ids)
    if mine.validation_digest != theirs.validation_digest or not same_images:
        raise DataError(
            f"{candidate.name} and champion {champion.name} were evaluated on different images",
            remedy="evaluate the champion on the candidate's validation set",
        )
