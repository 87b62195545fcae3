"""The step on a real, tiny, finished training; whole runs are in tests/end_to_end."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ObjectCorrupt, TrackingError
from infra.store import FolderStore, ObjectStore
from infra.store.s3 import S3Store

VAL_IMAGES = 150


def copy_to(source: FolderStore, target: ObjectStore) -> None:
    for info in source.list():
        target.write(info.key, source.read(info.key))


def test_a_report_is_one_page_with_its_pictures_beside_it(finished_run: Any, step_of: Any) -> None:
    step = step_of(finished_run)
    assert step.find() is None
    assert step.ensure(before_making=lambda: None) == "ran"
    folder = Path(step.folder().uri)
    assert step.fields(step.product) == {"report": f"{folder}/report.html"}
    receipt = json.loads((folder / "report.json").read_text())
    listed = {item["path"]: item for item in [receipt["page"], *receipt["pictures"]]}
    assert {"report.html", "loss.png", "filters.png", "confusion.png", "prediction-8.jpg"} <= set(
        listed
    )
    assert {"neighbours.jpg", "maps.png"} <= set(listed)
    assert {f"filters-{n:08}.png" for n in (0, 5, 10)} <= set(listed)
    for path, item in listed.items():
        body = (folder / path).read_bytes()
        assert (item["size_bytes"], item["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_what_was_reported_holds(finished_run: Any, step_of: Any) -> None:
    first = step_of(finished_run)
    first.ensure(before_making=lambda: None)
    before = {path: path.stat().st_mtime_ns for path in Path(first.folder().uri).glob("*")}
    again = step_of(finished_run)
    finished_run.tracker.away = True  # not even asked
    assert again.look()
    assert again.product.receipt == first.product.receipt
    assert {path: path.stat().st_mtime_ns for path in Path(again.folder().uri).glob("*")} == before


def test_what_another_process_reported_meanwhile_is_not_written_again(
    finished_run: Any, step_of: Any
) -> None:
    first = step_of(finished_run)
    first.ensure(before_making=lambda: None)
    before = {path: path.stat().st_mtime_ns for path in Path(first.folder().uri).glob("*")}
    late = step_of(finished_run)
    assert late._write() == first.product.receipt
    assert {path: path.stat().st_mtime_ns for path in Path(late.folder().uri).glob("*")} == before


def test_mlflow_gets_filters_over_time_classes_and_the_report(
    finished_run: Any, step_of: Any
) -> None:
    step = step_of(finished_run)
    step.ensure(before_making=lambda: None)
    run = finished_run.tracker.runs[finished_run.run_id]
    assert sorted(run.images) == [("filters", 0), ("filters", 5), ("filters", 10)]
    table = run.tables["per_class.json"]
    assert list(table) == ["label", "wnid", "name", "count", "top1", "top5"]
    assert sum(table["count"]) == VAL_IMAGES
    right = sum(c * t for c, t in zip(table["count"], table["top1"], strict=True))
    assert right == pytest.approx(finished_run.evaluation.center.correct1)
    folder = Path(step.folder().uri)
    assert run.files["report/report.html"] == (folder / "report.html").read_bytes()
    assert {"report/confusion.png", "report/film.png"} <= set(run.files)


def test_while_mlflow_is_away_the_report_is_kept_and_sent_later(
    finished_run: Any, step_of: Any
) -> None:
    said = io.StringIO()
    finished_run.tracker.away = True
    first = step_of(finished_run, said)
    assert first.ensure(before_making=lambda: None) == "ran"
    page = Path(first.folder().uri, "report.html")
    written = page.stat().st_mtime_ns
    (line,) = said.getvalue().splitlines()
    assert line.startswith("report: MLflow is away")

    finished_run.tracker.away = False
    later = step_of(finished_run)
    assert later.find() is None
    assert later.ensure(before_making=lambda: None) == "ran"
    run = finished_run.tracker.runs[finished_run.run_id]
    assert run.files["report/report.html"] == page.read_bytes()
    assert page.stat().st_mtime_ns == written
    assert step_of(finished_run).look()


def test_a_send_that_breaks_off_is_begun_again(
    finished_run: Any, step_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise TrackingError("gone", remedy="wait")

    with monkeypatch.context() as patch:
        patch.setattr(finished_run.tracker, "log_files", away)
        step_of(finished_run).ensure(before_making=lambda: None)
    run = finished_run.tracker.runs[finished_run.run_id]
    assert (len(run.images), run.files) == (3, {})
    assert step_of(finished_run).ensure(before_making=lambda: None) == "ran"
    assert (len(run.images), "report/report.html" in run.files) == (3, True)


@pytest.mark.parametrize("what", ["training", "evaluation", "registration"])
def test_another_result_is_another_report(finished_run: Any, step_of: Any, what: str) -> None:
    changes = {
        "training": {"run_key": "1" * 64},
        "evaluation": {"count": 7},
        "registration": {"version": "5"},
    }
    other = getattr(finished_run, what).model_copy(update=changes[what])
    folder = step_of(finished_run).folder().uri
    assert step_of(replace(finished_run, **{what: other})).folder().uri != folder


def test_a_report_that_lost_a_picture_is_named(finished_run: Any, step_of: Any) -> None:
    step = step_of(finished_run)
    step.ensure(before_making=lambda: None)
    step.folder().delete("loss.png")
    with pytest.raises(ObjectCorrupt, match=r"loss\.png is missing"):
        step_of(finished_run).find()


def test_an_older_training_without_filters_or_notes_is_reported(
    finished_run: Any, step_of: Any
) -> None:
    for info in [*finished_run.run.list("filters/"), *finished_run.run.list("commands/")]:
        finished_run.run.delete(info.key)
    step = step_of(finished_run)
    step.ensure(before_making=lambda: None)
    assert finished_run.tracker.runs[finished_run.run_id].images == {}
    assert "As they came about" not in Path(step.folder().uri, "report.html").read_text()


def test_a_workspace_in_s3_is_reported_there(
    finished_run: Any, step_of: Any, s3_store: S3Store
) -> None:
    copy_to(finished_run.workspace, s3_store)
    moved = replace(
        finished_run,
        workspace=s3_store,
        dataset=s3_store.child("datasets/d"),
        run=s3_store.child("runs/r"),
        evaluated=s3_store.child("evaluations/e"),
    )
    step = step_of(moved)
    assert step.ensure(before_making=lambda: None) == "ran"
    assert step.fields(step.product)["report"].startswith("s3://")
    assert s3_store.child(step.folder().uri.removeprefix(f"{s3_store.uri}/")).stat("report.html")
    assert step_of(moved).look()
