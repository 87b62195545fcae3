"""The gate through whole commands: who becomes champion, and what the shell sees."""

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end_tools import Cli, Reference
from mlflow.tracking import MlflowClient
from mlflow_window import MlflowWindow

from infra.store import FolderStore
from infra.tracking.place import place_for

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]


def champion(cli: Cli) -> str:
    """The version that MLflow names so."""
    client = MlflowClient(place_for(FolderStore(cli.workspace), None).uri)
    return str(client.get_model_version_by_alias("alexnet", "champion").version)


def check_report(cli: Cli, document: dict[str, Any]) -> None:
    """A page in the workspace and in MLflow, with filters by step and the command that ran."""
    page = Path(document["report"]).read_bytes()
    assert b"alexnet run demo" in page
    window = MlflowWindow(place_for(FolderStore(cli.workspace), None))
    run_id = document["mlflow_run_id"]
    assert window.file(run_id, "report/report.html") == page
    saved = [*range(0, document["global_step"], 7), document["global_step"]]
    steps = [step for key, step in window.images(run_id) if key == "filters"]
    assert steps[:: len(steps) - 1] == [0, saved[-1]]
    assert set(steps) <= set(saved)
    assert len(window.table(run_id, "per_class.json")["name"]) == document["num_classes"]


def test_champions_change_only_for_the_better(reference: Reference, tmp_path: Path) -> None:
    cli, first = reference.cli.copy_all(tmp_path / "workspace"), reference.document
    assert first["verdict"] == "accepted"
    check_report(reference.cli, first)
    assert champion(cli) == first["version"]

    # One epoch at a hundredth of the rates: hardly more than its fresh weights.
    worse = [
        "train.epochs=1",
        "train.schedule.weight_rate=0.0001",
        "train.schedule.bias_rate=0.0002",
    ]
    refused = cli.run("run", "demo", settings=worse)
    assert refused.code == 5, refused.err
    assert refused.document["verdict"] == "refused"
    assert "Downloading" not in refused.err  # MLflow's bars
    check_report(cli, refused.document)
    assert refused.document["aliases"] == ["challenger"]
    assert champion(cli) == first["version"]
    repeated = cli.run("run", "demo", settings=worse)
    assert repeated.code == 5
    assert {step["state"] for step in repeated.document["steps"]} == {"holds"}
    assert repeated.document["version"] == refused.document["version"]

    better = cli.run_well("run", "demo", settings=["train.epochs=14"])
    assert better["center"]["top1"] > first["center"]["top1"]
    assert better["champion"] == first["version"]
    assert champion(cli) == better["version"]
    found = Cli(cli.workspace, settings=()).run_well("inspect", "models:/alexnet@champion")
    assert found["version"] == better["version"]

    notes = [json.loads(path.read_text()) for path in cli.workspace.glob("runs/*/commands/*.json")]
    # The repeated one made nothing. What a refusal is told with comes after the command's end.
    assert [note["ended"] for note in notes] == ["done"] * 3

    # Deleted in MLflow, with its aliases: the same command registers it again.
    uri = place_for(FolderStore(cli.workspace), None).uri
    MlflowClient(uri).delete_model_version("alexnet", better["version"])
    again = cli.run_well("run", "demo", settings=["train.epochs=14"])
    assert int(again["version"]) > int(better["version"])
    assert champion(cli) == again["version"]

    # Other classes, and it is told before the training that would be for nothing.
    trained = sorted(cli.workspace.glob("runs/*/run.json"))
    other = cli.run("run", "demo", settings=["dataset.drawn.num_classes=4"])
    assert other.code == 2, other.err
    assert "tells other classes apart" in other.err
    assert sorted(cli.workspace.glob("runs/*/run.json")) == trained
