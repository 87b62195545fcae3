from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from alexnet.evaluate.evaluation import Accuracy, Evaluation
from alexnet.release.gate import Contender, judge, mcnemar_p, parse_verdict
from alexnet.release.settings import GateSettings
from infra.commit import StoredObject
from infra.errors import DataError, RecipeError
from preprocessing.dataset.labels import make_classes

CLASSES = make_classes({"a": "ant", "b": "bee"})


def contender(correct: Any, *, images: str = "1", classes: str = "c", name: str = "1") -> Contender:
    correct = np.asarray(correct, bool)
    right = int(correct.sum())
    accuracy = Accuracy(
        top1=right / len(correct), top5=1.0, correct1=right, correct5=len(correct), loss=1.0
    )
    item = StoredObject(path="x", size_bytes=0, sha256="0" * 64)
    evaluation = Evaluation(
        key="k",
        dataset_fingerprint="f",
        validation_digest=images * 64,
        classes_digest=classes * 64,
        checkpoint_digest="0" * 64,
        step=1,
        count=len(correct),
        center=accuracy,
        ten_crop=None,
        per_class=item,
        confusion=item,
        predictions=item,
    )
    ids = np.arange(len(correct))
    return Contender(
        name=name, evaluation=evaluation, sample_ids=ids, labels=ids % 2, correct=correct
    )


def right(count: int, of: int = 10) -> list[bool]:
    return [i < count for i in range(of)]


@pytest.mark.parametrize(
    ("ours", "theirs", "settings", "verdict"),
    [
        (5, None, {}, "accepted"),
        (5, None, {"min_top1": 0.5}, "accepted"),
        (5, None, {"min_top1": 0.51}, "refused"),
        (3, None, {"min_top1": 0.3}, "accepted"),
        (5, 5, {}, "accepted"),
        (6, 5, {"min_gain": 0.1}, "accepted"),
        (6, 5, {"min_gain": 0.11}, "refused"),
        (4, 5, {}, "refused"),
        (4, 5, {"min_gain": -0.1}, "accepted"),
        (4, 9, {"min_gain": -1.0}, "refused"),  # five lost, none won: p = 1/32
        (5, 9, {"min_gain": -1.0}, "accepted"),  # four lost: p = 1/16
    ],
)
def test_the_verdict(ours: int, theirs: int | None, settings: Any, verdict: str) -> None:
    champion = None if theirs is None else contender(right(theirs), name="7")
    found = judge(contender(right(ours)), champion, GateSettings(**settings), CLASSES)
    assert found.verdict == verdict
    assert found.reasons
    assert found.champion == (None if theirs is None else "7")
    assert parse_verdict(found.to_bytes(), "v") == found


def test_reasons_name_every_threshold_that_was_missed() -> None:
    settings = GateSettings(min_top1=0.9, min_gain=0.05)
    found = judge(contender(right(4)), contender(right(9), name="7"), settings, CLASSES)
    assert found.reasons == (
        "top-1 0.4000 is below gate.min_top1 0.9",
        "top-1 0.4000 is below champion 7's 0.9000 plus gate.min_gain 0.05",
        "champion 7 is better, McNemar's exact p = 0.031",
    )
    accepted = judge(contender(right(4)), None, GateSettings(), CLASSES)
    assert accepted.reasons == ("top-1 0.4000 reaches gate.min_top1 0.0; there is no champion",)


def test_what_is_champion_already_is_named_as_who_is_there() -> None:
    """Register holds that against the registry; `none` would have it judge again for ever."""
    found = judge(contender(right(4)), None, GateSettings(min_gain=0.05), CLASSES, itself="7")
    assert (found.verdict, found.champion, found.champion_top1) == ("accepted", "7", None)
    assert found.reasons == (
        "top-1 0.4000 reaches gate.min_top1 0.0; champion 7 is this very network",
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_scipys_binomial_test_on_the_discordant_images(
    pairs: list[tuple[bool, bool]],
) -> None:
    ours, theirs = np.array(pairs, bool).T
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    expected = binomtest(lost, won + lost, 0.5, "greater").pvalue if won + lost else 1.0
    assert mcnemar_p(ours, theirs) == pytest.approx(expected)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_refusal_never_depends_on_the_order_of_images(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = np.array(pairs, bool).T
    settings = GateSettings(min_gain=-0.5)
    forward = judge(contender(ours), contender(theirs), settings, CLASSES)
    backward = judge(contender(ours[::-1]), contender(theirs[::-1]), settings, CLASSES)
    assert forward.verdict == backward.verdict
    assert forward.mcnemar_p == backward.mcnemar_p


def test_a_class_that_got_worse_beyond_chance_is_named() -> None:
    ours = np.ones(40, bool)
    ours[1:20:2] = False  # ten bees lost, no ant
    found = judge(contender(ours), contender(np.ones(40)), GateSettings(), CLASSES)
    (regression,) = found.per_class_regressions
    assert (regression.name, regression.count) == ("bee", 20)
    assert (regression.champion_correct, regression.candidate_correct) == (20, 10)
    assert regression.p == pytest.approx(2**-10)


def test_a_champion_with_other_classes_is_a_mistake_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"1 and champion 7 .* different classes"):
        judge(contender([1]), contender([1], classes="d", name="7"), GateSettings(), CLASSES)


def test_a_champion_evaluated_on_other_images_is_to_be_evaluated_again() -> None:
    with pytest.raises(DataError, match="different images"):
        judge(contender([1]), contender([1], images="2"), GateSettings(), CLASSES)


def test_images_that_the_champion_was_trained_on_count_for_neither() -> None:
    """It has the first six by heart, of the other four it gets one."""
    champion = replace(
        contender(right(7), name="7"), seen_ids=np.arange(6), note="without 6 of 10 images"
    )
    candidate = contender([*[False] * 6, *[True] * 2, *[False] * 2])
    settings = GateSettings(min_top1=0.2, min_gain=0.25)
    found = judge(candidate, champion, settings, CLASSES)
    assert found.verdict == "accepted"
    assert found.reasons == (
        "top-1 0.2000 reaches gate.min_top1 0.2, and 0.5000 reaches champion 7's 0.2500 plus"
        " gate.min_gain 0.25",
        "without 6 of 10 images",
    )
    assert (found.top1, found.champion_top1, found.mcnemar_p) == (0.2, 0.7, 1.0)
    strict = judge(candidate, champion, GateSettings(min_gain=0.26), CLASSES)
    assert strict.reasons == (
        "top-1 0.5000 is below champion 7's 0.2500 plus gate.min_gain 0.26",
        "without 6 of 10 images",
    )


def test_a_champion_that_was_trained_on_all_images_stays_champion() -> None:
    champion = replace(contender(right(1), name="7"), seen_ids=np.arange(10))
    found = judge(contender(right(9)), champion, GateSettings(min_gain=-1.0), CLASSES)
    assert found.verdict == "refused"
    assert found.reasons == ("champion 7 was trained on all of these images",)
