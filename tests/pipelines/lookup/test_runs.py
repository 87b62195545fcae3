"""Trainings as they lie in a workspace; MLflow is asked for nothing but a link."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from alexnet.evaluate.evaluation import Accuracy, Evaluation
from alexnet.train.checkpoint import TrainState, write_checkpoint
from alexnet.train.training_receipt import commit_training
from infra.commit import write_object
from infra.errors import DataError, RecipeError
from infra.store import FolderStore
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import FOLDER, RunNote, open_run
from pipelines.lookup.comparison import compare_runs
from pipelines.lookup.runs import experiment_of, find_run, list_runs
from pipelines.recipe_yaml import load_recipe

LATE, EARLY = "demo-11aa22bb33cc44dd", "demo-11ff22bb33cc44dd"
CENTER = Accuracy(top1=0.5, top5=1.0, correct1=2, correct5=4, loss=0.75)


def write_run(
    workspace: Path, name: str, *overrides: str, started_ms: int | None = None
) -> FolderStore:
    run = FolderStore(workspace / "runs" / name)
    run.create("run.json", load_recipe("demo", overrides).model_dump_json().encode())
    if started_ms is not None:
        for step, loss in ((10, 2.5), (20, float("nan"))):
            point = MetricPoint(key="train/loss", step=step, value=loss, timestamp_ms=started_ms)
            Journal(run).append([point])
    return run


def finish(run: FolderStore) -> None:
    recipe = load_recipe("demo")
    state = TrainState(
        step=640,
        epoch=20,
        attempt=1,
        run_key="k",
        dataset_fingerprint="f" * 64,
        seed=0,
        global_batch=64,
        num_classes=10,
        network=recipe.model,
        augment=recipe.train.augment,
    )
    commit_training(run, "k", write_checkpoint(run, state, {}, {}))


def evaluate(workspace: Path, run: FolderStore, key: str, ten_crop: Accuracy | None) -> None:
    place = FolderStore(workspace / "evaluations" / key)
    names = ("per_class", "confusion", "predictions")
    evaluation = Evaluation(
        key=key,
        dataset_fingerprint="f" * 64,
        validation_digest="1" * 64,
        classes_digest="2" * 64,
        checkpoint_digest="3" * 64,
        step=640,
        count=4,
        center=CENTER,
        ten_crop=ten_crop,
        **{name: write_object(place, name, b"x") for name in names},
    )
    place.create("evaluation.json", evaluation.to_bytes())
    run.create(f"results/{key}", b"")


def test_an_empty_name_is_not_the_beginning_of_the_only_one(tmp_path: Path) -> None:
    write_run(tmp_path, LATE)
    with pytest.raises(RecipeError, match="a name is empty"):
        find_run("", str(tmp_path))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two trainings, the later one finished and evaluated twice; and something else."""
    late = write_run(tmp_path, LATE, "train.epochs=40", started_ms=1_800_000_000_000)
    write_run(tmp_path, EARLY, started_ms=1_700_000_000_000)
    finish(late)
    evaluate(tmp_path, late, "a" * 16, CENTER)
    evaluate(tmp_path, late, "b" * 16, None)
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    return tmp_path


def note(run: FolderStore, server: str, run_id: str, number: int = 1) -> None:
    body = RunNote(server=server, run_id=run_id).model_dump_json().encode()
    run.write(f"{FOLDER}{number:04}.json", body)


def test_trainings_are_listed_newest_first(workspace: Path) -> None:
    late, early = list_runs(str(workspace))
    assert (late["name"], late["status"], late["started_at"]) == (
        LATE,
        "FINISHED",
        "2027-01-15T08:00:00+00:00",
    )
    assert (late["global_step"], late["epoch"], late["epochs"]) == (640, 20, 40)
    assert (late["top1"], late["top1_ten_crop"]) == (0.5, 0.5)
    assert (late["recipe"], late["dataset"]) == ("demo", "drawn")
    assert late["dataset_fingerprint"] == "f" * 64
    assert late["uri"] == f"{workspace}/runs/{LATE}"
    assert (early["name"], early["status"]) == (EARLY, "UNFINISHED")
    assert (early["global_step"], early["top1"], early["mlflow_run_id"]) == (0, None, None)


def test_one_that_has_just_begun_comes_first_and_a_damaged_one_hides_none(
    workspace: Path,
) -> None:
    write_run(workspace, "new-0")
    FolderStore(workspace / "runs" / "cut-0").write("run.json", b'{"name": ')
    FolderStore(workspace / "runs" / EARLY).write("evaluations/x", b"")
    found = {run["name"]: run for run in list_runs(str(workspace))}
    assert list(found)[:2] == ["new-0", "cut-0"]
    assert found["cut-0"]["status"] == "DAMAGED"
    assert all(run.keys() == found[LATE].keys() for run in found.values())


def test_an_empty_workspace_has_none(tmp_path: Path) -> None:
    assert list_runs(str(tmp_path / "nothing")) == []


def test_a_run_is_found_by_name_beginning_folder_or_id(workspace: Path) -> None:
    run = FolderStore(workspace / "runs" / LATE)
    note(run, "workspace", "0" * 32)
    for name in (LATE, "demo-11a", run.uri, f"{run.uri}/", "0" * 32):
        assert find_run(name, str(workspace)).uri == run.uri
    with pytest.raises(RecipeError, match=f"may be any of {LATE}, {EARLY}"):
        find_run("demo-11", str(workspace))
    for name in ("demo-3", str(workspace), "1" * 32):
        with pytest.raises(DataError, match="is no training"):
            find_run(name, str(workspace))


def test_a_name_that_begins_another_is_its_own(workspace: Path) -> None:
    write_run(workspace, "demo-11")
    assert find_run("demo-11", str(workspace)).uri.endswith("/demo-11")


def compare(workspace: Path, *names: str, tracking_uri: str | None = None) -> dict[str, Any]:
    found = compare_runs(names, workspace=str(workspace), tracking_uri=tracking_uri)
    json.dumps(found, allow_nan=False)
    return found


def test_what_differs_is_compared_without_mlflow(workspace: Path) -> None:
    found = compare(workspace, LATE, EARLY)
    assert found["parameters"] == {"train.epochs": ["40", "20"]}
    assert found["metrics"] == {"train/loss": ["nan", "nan"]}
    assert [run["name"] for run in found["runs"]] == [LATE, EARLY]
    assert (found["link"], found["no_link"]) == (None, "no one MLflow server has all of these runs")


@pytest.mark.parametrize("names", [[LATE], [LATE, LATE], [LATE, EARLY, "demo-11aa"]])
def test_a_comparison_takes_different_trainings(names: list[str], workspace: Path) -> None:
    with pytest.raises(RecipeError, match="two or more different"):
        compare(workspace, *names)


def test_the_link_names_runs_and_their_experiment(workspace: Path, mlflow_template: Path) -> None:
    (workspace / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    place = place_for(FolderStore(workspace), None)
    tracker = MlflowTracker(place, experiment="e")
    for name in (LATE, EARLY):
        recipe = load_recipe("demo", ["tracking.experiment=e"]).model_dump_json()
        (workspace / "runs" / name / "run.json").write_text(recipe)
    default = MlflowTracker(place)
    default.create_run(run_key="other", run_name="other")
    default._client().delete_experiment(default._find_experiment())  # nobody's affair
    ids = [
        open_run(
            tracker,
            FolderStore(workspace / "runs" / name),
            run_key=name,
            run_name=name,
            timeout_s=30,
        )
        for name in (LATE, EARLY)
    ]
    # Another server that is named has them not: the one that has them is linked.
    found = compare(workspace, LATE, EARLY, tracking_uri="http://127.0.0.1:1")
    assert found["look"].endswith(f" ui --backend-store-uri sqlite:///{workspace}/mlflow.db")
    link = urlsplit(found["link"])
    assert f"{link.scheme}://{link.netloc}{link.path}" == "http://127.0.0.1:5000/"
    page, _, query = link.fragment.partition("?")
    asked = parse_qs(query)
    assert page == "/compare-runs"
    assert json.loads(asked["runs"][0]) == ids
    assert json.loads(asked["experiments"][0]) == [tracker.experiment_of(ids[0])]
    assert not set('"[],') & set(found["link"])


def test_while_mlflow_is_away_only_the_link_is_missing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.lookup.comparison.REACHABLE_S", 0.2)
    for name in (LATE, EARLY):
        run = FolderStore(workspace / "runs" / name)
        note(run, "workspace", "0" * 32)
        note(run, "http://127.0.0.1:1", name * 2, number=2)
    found = compare(workspace, LATE, EARLY)
    assert found["link"] is None
    assert "MLflow at http://127.0.0.1:1" in found["no_link"]
    assert found["parameters"]


def test_a_trainings_experiment_is_the_default_where_its_recipe_tells_none(
    workspace: Path,
) -> None:
    run = write_run(workspace, "named-0", "tracking.experiment=mine")
    assert experiment_of(run) == "mine"
    for recipe in (b"{}", b'{"tracking": null}', b'{"tracking": ', b'{"tracking": {}}'):
        run.write("run.json", recipe)
        assert experiment_of(run) == "alexnet"


def test_workspaces_of_their_own_have_no_server_in_common(workspace: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", "demo-0")
    note(other, "workspace", "0" * 32)
    note(FolderStore(workspace / "runs" / LATE), "workspace", "0" * 32)
    assert "no one MLflow server" in compare(workspace, LATE, other.uri)["no_link"]


def test_a_link_has_no_credentials(mlflow_place: TrackingPlace) -> None:
    from pipelines.links import comparison_link, look_command, run_link

    server = TrackingPlace("https://me:secret@mlflow.example.org/", None, "mlflow.example.org")
    link = comparison_link(["a", "b"], ["1", "1"], server)
    assert link == (
        "https://mlflow.example.org/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D"
        "&experiments=%5B%221%22%5D"
    )
    assert run_link("a", server) == "https://mlflow.example.org/#/runs/a"
    assert look_command(server) is None
    assert "'sqlite:" in (look_command(mlflow_place) or "")
