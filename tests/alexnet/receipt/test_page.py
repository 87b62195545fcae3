from receipt_runs import a_run

from alexnet.receipt.elements import Ablation, Element, Published
from alexnet.receipt.measured import BASELINE, Measurements, Run
from alexnet.receipt.page import measured_words, receipt_page
from alexnet.receipt.runs_table import measurements_text


def a_series(*runs: Run, failures: dict[str, str] | None = None) -> Measurements:
    return Measurements(
        started_at="2026-01-02T03:04:05+00:00",
        elapsed_s=1800.0,
        recipe="receipt",
        settings=("prepare.max_rejects=1",),
        archives="ten-classes",
        dataset_fingerprint="cd" * 32,
        train_count=4999,
        val_count=500,
        machine="A CPU, 2 CPUs, 24 GiB, no GPU",
        versions={"python": "3.11.7", "torch": "2.13.0"},
        commit="0123456789ab, modified",
        load_average=(0.1, 2.4),
        runs=runs,
        failures=failures or {},
    )


SERIES = a_series(
    a_run(BASELINE, 0, 150, 140),
    a_run("response-norm", 0, 160, 151),
    a_run(BASELINE, 1, 148, 139),
    a_run("response-norm", 1, 157, 149),
    a_run("dropout", 0, 130, 120),
    a_run("dropout", 1, 129, 120),
)


def an_element(name: str, top1_points: float | None) -> Element:
    return Element(
        says="It does.",
        source="paper 1",
        code=("a/b.py::c",),
        tests=("tests/a.py::test_c",),
        published=Published(what="A figure.", source="paper 1", top1_points=top1_points),
        ablation=Ablation(name=name, settings=("model.dropout=0",)),
    )


def test_an_effect_is_told_with_its_interval_and_beside_the_published_one() -> None:
    assert measured_words(an_element("response-norm", 1.4), SERIES) == (
        "+2.1 points, +0.8 to +3.4: the same sign"
    )
    assert measured_words(an_element("dropout", None), SERIES) == "-3.9 points, -5.2 to -2.6"
    assert measured_words(an_element("dropout", 1.0), SERIES).endswith(": **contradicts**")


def test_what_was_not_run_is_not_yet_measured() -> None:
    element = an_element("two-towers", 1.7)
    assert measured_words(element, SERIES) == "not yet"
    assert measured_words(element, None) == "not yet"
    told = element.model_copy(update={"ablation": None, "unmeasured": "It is a count."})
    assert measured_words(told, SERIES) == "not yet: It is a count."


def test_the_runs_are_told_with_what_they_were_made_on() -> None:
    text = measurements_text(SERIES)
    for words in (
        "A CPU, 2 CPUs, 24 GiB, no GPU",
        "torch 2.13.0",
        "load 0.1 before and 2.4 after",
        "Recipe `receipt` on ten-classes, 4,999 training and 500 validation images",
        "1,106 updates a run",
        "dropout 1 abababababab",
        "| response-norm | centre | +1.90 |",
        "| response-norm | ten crops | +2.10 |",
        "| ten-crops | centre instead | +1.83 | +0.6 to +3.1 | 0.14 | +1.9, +1.7 |",
        "| baseline |  | 0: 150 9, 140 8<br>1: 148 9, 139 8 |",
        "| dropout | `model.dropout=0`<br>Too short a training",
    ):
        assert words in text


def test_what_an_ablation_changes_besides_is_said_wherever_its_figure_is() -> None:
    series = a_series(a_run(BASELINE, 0, 150), a_run("overlapping-pooling", 0, 152))
    note = "that leaves fc6 512 inputs of 1,152"
    assert note in measurements_text(series)
    assert note in receipt_page(series).partition("## The runs")[0]
    assert note in receipt_page(None)


def test_what_failed_is_said() -> None:
    text = measurements_text(a_series(failures={"dropout, seed 0": "ended with 3"}))
    assert "no updates a run" in text
    assert "**dropout, seed 0 failed**: ended with 3" in text


def test_a_page_without_runs_has_every_element_and_nothing_measured() -> None:
    page = receipt_page(None)
    assert "of 0 the effect is measured" in page
    assert "**two towers**" in page
    assert " points, " not in page.partition("## The network")[2]
    assert page.endswith("## The runs\n\nNone yet.")


def test_a_contradiction_is_counted() -> None:
    against = a_series(
        *(a_run(BASELINE, seed, 150, 140) for seed in range(3)),
        *(a_run("two-towers", seed, 130 + seed, 120 + seed) for seed in range(3)),
    )
    page = receipt_page(against)
    assert "**contradicts**" in page
    assert "which ours contradicts in 1." in page
