import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from alexnet.evaluate.rows import View
from alexnet.figures.panel import Guess
from alexnet.inference.model_probe import ModelProbe
from alexnet.release.gate import Regression
from alexnet.trained import trained_network
from infra.tracking.journal import Journal
from infra.tracking.points import MetricPoint
from pipelines.recipe_yaml import load_recipe
from pipelines.reporting.page import (
    Tracked,
    confused_pairs,
    duration,
    percent,
    render_page,
    total_seconds,
    versions_of,
    worst_first,
)
from pipelines.reporting.panel_images import PanelImage
from pipelines.reporting.pictures import draw_pictures
from pipelines.reporting.sources import (
    ClassCount,
    Sources,
    class_columns,
    read_points,
    read_sources,
)
from pipelines.timeline import CommandNote, StepTime, Timeline, read_command_notes, with_last_signs

TRACKED = Tracked("r1", "https://mlflow.example.org/#/runs/r1", None)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that what is opened is closed, and collects what a reader meets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.folded: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            words = " ".join(data.split())
            (self.folded if "details" in self.open else self.words).append(words)


def command(**states: Any) -> Any:
    timeline = Timeline("alexnet report '<i>.yaml'")
    for name, state in states.items():
        with timeline.entry(name) as entry:
            entry.state = state
    return timeline.note("done")


@pytest.fixture
def sources(finished_run: Any) -> Sources:
    checkpoint = finished_run.run.child(finished_run.training.checkpoint)
    probe = ModelProbe(trained_network(checkpoint, finished_run.dataset, finished_run.manifest))
    return read_sources(
        recipe=load_recipe("demo", ["train.epochs=2", "train.global_batch=4"]),
        dataset=finished_run.dataset,
        manifest=finished_run.manifest,
        run=finished_run.run,
        training=finished_run.training,
        evaluated=finished_run.evaluated,
        evaluation=finished_run.evaluation,
        verdict=finished_run.verdict,
        registration=finished_run.registration,
        probe=probe,
        commands=[*read_command_notes(finished_run.run), command(evaluate="ran", gate="holds")],
    )


def rendered(sources: Sources) -> str:
    return render_page(sources, draw_pictures(sources), TRACKED, made_at="2026-01-31 12:00 UTC")


def test_a_page_needs_nothing_beside_it(sources: Sources) -> None:
    page = Page(rendered(sources))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 4 + 1 + 3 + 1 + 8 + 2
    for attributes in images:
        assert str(attributes["src"]).startswith("data:image/")
        assert attributes["alt"]
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    style = rendered(sources).partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [TRACKED.link]


def test_the_film_strip_is_shown_where_there_is_more_than_one_moment(sources: Sources) -> None:
    def films(of: Sources) -> list[str | None]:
        images = [attributes for tag, attributes in Page(rendered(of)).tags if tag == "img"]
        return [image["alt"] for image in images if "film strip" in str(image["alt"])]

    assert films(sources) == ["film strip: some of the filters, a column each, at 3 moments"]
    first = dict(list(sources.frames.items())[:1])
    assert films(replace(sources, frames=first)) == []


def test_odd_names_are_words_and_never_markup(sources: Sources, finished_run: Any) -> None:
    text = rendered(sources)
    assert "<script" not in text
    assert "<em>" not in text
    assert "<i>.yaml" not in text
    words = Page(text).words
    for entry in sources.classes:
        assert not entry.name or any(entry.name in word for word in words), entry.name
    assert "{{ 7*7 }}" in words
    assert any("<em>tiny</em>" in word for word in words)
    assert "alexnet train '<b>.yaml'" in words


def test_the_headline_is_the_evaluations(sources: Sources) -> None:
    words, center = Page(rendered(sources)).words, sources.evaluation.center
    assert percent(center.top1) in words
    assert f"{center.correct1} of 150" in words
    assert "ten crops" not in words
    assert {"refused", "Refused"} <= set(words)


def test_steps_of_all_commands_are_told(sources: Sources) -> None:
    words = Page(rendered(sources)).words
    at = [words.index(w) for w in ("alexnet train '<b>.yaml'", "alexnet report '<i>.yaml'")]
    assert at == sorted(at)
    assert words.count("made") == 2
    assert words.count("found") == 1


def test_a_command_that_was_killed_is_told_with_the_time_until_its_last_metric(
    finished_run: Any, sources: Sources
) -> None:
    begun = StepTime(name="train", state="begun", started_at="1970-01-01T00:00:00+00:00", seconds=0)
    killed = CommandNote(
        command="alexnet train", started_at=begun.started_at, ended="", steps=(begun,), versions={}
    )
    Journal(finished_run.run).append(
        [MetricPoint(key="train/loss", step=99, value=1, timestamp_ms=90_500)]
    )
    signs = sorted(p.timestamp_ms / 1000 for p in read_points(finished_run.run))
    told = replace(sources, commands=with_last_signs([killed, *sources.commands], signs))
    words = Page(rendered(told)).words
    at = words.index("alexnet train")
    assert words[at + 1] == "ended without a word"
    assert {"killed", "1 min 30 s"} <= set(words[at : at + 6])
    assert total_seconds(told) == pytest.approx(total_seconds(sources) + 90.5)


def test_versions_are_told_once_for_all_commands_that_had_them(sources: Sources) -> None:
    (versions,) = versions_of(sources)
    assert "python" in versions
    old = sources.commands[0].model_copy(update={"versions": {"torch": "1.0"}})
    mixed = replace(sources, commands=[old, *sources.commands, old])
    assert versions_of(mixed) == [{"torch": "1.0"}, versions]
    assert "torch 1.0" in Page(rendered(mixed)).words


def test_the_starts_tell_how_many_workers_there_were(sources: Sources) -> None:
    assert [(a.start_step, a.world_size) for a in sources.attempts] == [(0, 2), (5, 1)]


def right_of(right1: int, right5: int) -> dict[View, tuple[int, int]]:
    return {"center": (right1, right5), "ten_crop": (right1, right5)}


def many_classes(sources: Sources) -> Sources:
    """ImageNet's size: a thousand classes, and so many rejects and regressions."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 51, 1000)
    classes = [
        ClassCount(n, f"n{n:08}", f"class <{n}>", 50, right_of(int(k), 50))
        for n, k in enumerate(right)
    ]
    confusion = np.diag(right)
    confusion[np.arange(1000), (np.arange(1000) + 1) % 1000] = 50 - right
    regressions = tuple(
        Regression(label=n, name="x", count=50, champion_correct=40, candidate_correct=1, p=1e-9)
        for n in range(40)
    )
    guesses = (Guess(998, 0.75), Guess(999, 0.25))
    panel = [PanelImage(b"\xff\xd8", 999, 1, guesses, np.zeros((48, 48, 3), np.uint8))]
    return replace(
        sources,
        classes=classes,
        confusion=confusion,
        panel=panel,
        verdict=sources.verdict.model_copy(update={"per_class_regressions": regressions}),
        evaluation=sources.evaluation.model_copy(update={"ten_crop": sources.evaluation.center}),
    )


def test_of_a_thousand_classes_the_worst_are_shown_and_the_rest_is_folded(
    sources: Sources,
) -> None:
    many = many_classes(sources)
    text = rendered(many)
    page = Page(text)
    keys = [word for word in page.words if re.fullmatch(r"n\d{8}", word)]
    assert keys == [entry.wnid for entry in worst_first(many.classes)[:20]]
    assert len([word for word in page.folded if re.fullmatch(r"n\d{8}", word)]) == 980
    assert "the other 980" in page.folded
    assert "top-1, ten crops" in page.words
    assert len(text) < 2_000_000


def test_nine_crops_are_called_nine(sources: Sources) -> None:
    nine = sources.evaluation.model_copy(update={"nine_crop": sources.evaluation.center})
    classes = [
        replace(entry, right={**entry.right, "nine_crop": entry.right["center"]})
        for entry in sources.classes
    ]
    words = Page(rendered(replace(sources, evaluation=nine, classes=classes))).words
    assert "top-1, nine crops" in words
    assert not any("ten crops" in word for word in words)
    columns = class_columns(classes)
    assert columns["top1_nine_crop"] == columns["top1"]


def test_the_most_confused_pairs_come_first(sources: Sources) -> None:
    confusion = np.diag([50] * 7)
    confusion[2, 5], confusion[6, 0], confusion[0, 6] = 3, 9, 3
    pairs = confused_pairs(replace(sources, confusion=confusion))
    names = [entry.name for entry in sources.classes]
    assert [(p.true, p.predicted, p.count) for p in pairs] == [
        (names[6], names[0], 9),
        (names[0], names[6], 3),
        (names[2], names[5], 3),
    ]
    assert confused_pairs(replace(sources, confusion=np.diag([50] * 7))) == []


def test_a_class_without_images_comes_last() -> None:
    classes = [
        ClassCount(0, "a", "a", 0, {"center": (0, 0)}),
        ClassCount(1, "b", "b", 4, {"center": (4, 4)}),
        ClassCount(2, "c", "c", 4, {"center": (1, 4)}),
    ]
    assert [entry.wnid for entry in worst_first(classes)] == ["c", "b", "a"]
    assert class_columns(classes)["top1"] == [None, 1.0, 0.25]


def test_the_panel_shows_what_is_stored(sources: Sources, finished_run: Any) -> None:
    assert len(sources.panel) == 8
    assert sum(image.rank == 0 for image in sources.panel) == 4
    for image in sources.panel:
        assert image.jpeg.startswith(b"\xff\xd8")
        assert len(image.guesses) == 5
        assert (image.guesses[0].label == image.label) == (image.rank == 0)


def test_the_neighbours_are_of_all_other_images_or_it_is_said_of_how_many(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(Page(rendered(sources)).words)
    assert "distance of fc7_relu, nearest first, of all other validation images." in text
    monkeypatch.setattr("alexnet.inference.split_neighbours.MOST_AMONG", 64)
    assert "of the first 64 of 150 validation images." in " ".join(Page(rendered(sources)).words)


def test_without_neighbours_and_maps_there_are_no_pictures_of_them(sources: Sources) -> None:
    alone = [replace(image, near=()) for image in sources.panel]
    bare = replace(sources, panel=alone, layers=[])
    assert not {"neighbours.jpg", "maps.png"} & set(draw_pictures(bare))
    assert "most like them" not in rendered(bare)
    assert "What the layers make" not in rendered(bare)


def test_the_panels_neighbours_are_other_images_of_the_split(sources: Sources) -> None:
    for image in sources.panel:
        assert len(image.near) == 6
        assert not any(np.array_equal(near.pixels, image.pixels) for near in image.near)
    assert [name for name, _ in sources.layers] == [f"conv{n}" for n in range(1, 6)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (90, "1 min 30 s"),
        (3660, "1 h 01 min"),
        (400_000, "111 h 06 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_recipe_is_folded_away_whole(sources: Sources) -> None:
    folded = " ".join(Page(rendered(sources)).folded)
    assert "weight_decay: 0.0005" in folded
    assert "&lt;" not in folded
