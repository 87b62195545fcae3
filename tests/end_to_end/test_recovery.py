"""Killed anywhere, the same command ends as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end_tools import (
    Cli,
    Reference,
    check_epochs,
    check_points,
    effective_rows,
    ids_by_step,
    is_running,
    kill_a_train_worker,
    wait_until,
    weights_of,
)
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]


def mlflow_run(cli: Cli) -> Run:
    """The only run of a workspace's own MLflow."""
    client = MlflowClient(f"sqlite:///{cli.workspace}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo"]
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def check_tracking(cli: Cli, like: Reference) -> None:
    """One MLflow run, finished, with every point of the undisturbed one, once."""
    check_points(f"sqlite:///{cli.workspace}/mlflow.db", mlflow_run(cli).info.run_id, like)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in document["steps"]}


def test_kills_in_every_stage_change_nothing(
    cli: Cli, reference: Reference, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    logged = [f"train.sample_log={log}"]
    cli.kill_when(
        lambda: len(list(cli.workspace.glob("datasets/*/train/*.parquet"))) >= 2,
        "run",
        "demo",
        settings=logged,
    )
    assert not cli.has("datasets/*/manifest.json")
    rendered = {
        path: path.stat().st_mtime_ns
        for path in cli.workspace.glob("datasets/*/_build/train-*.json")
    }

    interrupted = cli.interrupt_when(
        lambda: cli.has_checkpoint(step=21), "run", "demo", settings=logged
    )
    assert interrupted.code == 130, interrupted.err
    assert interrupted.document["error"]["exit_code"] == 130
    assert mlflow_run(cli).info.status == "KILLED"
    assert all(path.stat().st_mtime_ns == written for path, written in rendered.items())

    process = cli.start("run", "demo", settings=logged)
    wait_until(lambda: cli.has_checkpoint(step=35, attempt=2), process)
    kill_a_train_worker(process)
    wait_until(lambda: cli.has("runs/*/finished.json"), process)
    process.kill()
    process.communicate()
    assert not cli.has("evaluations/*/evaluation.json")

    process = cli.start("run", "demo", settings=logged)
    wait_until(lambda: is_running("_Worker.evaluate", process), process)
    process.kill()
    process.communicate()
    assert cli.has("evaluations/*/lease/*.json")
    assert not cli.has("evaluations/*/evaluation.json")

    # Evaluated, but perhaps not yet shown in the run.
    cli.kill_when(lambda: cli.has("evaluations/*/evaluation.json"), "run", "demo", settings=logged)

    document = cli.run_well("run", "demo", settings=logged)
    found = states(document)
    assert (found["prepare"], found["train"], found["register"]) == ("holds", "holds", "ran")
    assert document["attempts"] == 3
    assert document["fingerprint"] == reference.document["fingerprint"]
    assert weights_of(cli) == reference.weights()
    assert document["center"] == reference.document["center"]
    assert document["ten_crop"] == reference.document["ten_crop"]
    assert mlflow_run(cli).info.run_id == document["mlflow_run_id"]
    check_tracking(cli, reference)
    check_epochs(log, document["run_key"])

    again = cli.run_well("run", "demo", settings=logged)
    assert set(states(again).values()) == {"holds"}


def test_a_finished_training_whose_end_is_damaged_goes_on_as_its_remedy_says(
    reference: Reference, tmp_path: Path
) -> None:
    cli = reference.cli.copy_all(tmp_path / "workspace")
    (finished,) = cli.workspace.glob("runs/*/finished.json")
    checkpoint = finished.parent / json.loads(finished.read_text())["checkpoint"]
    (checkpoint / "model.safetensors").write_bytes(b"cut")
    refused = cli.run("train", "demo")
    assert refused.code == 3
    assert "delete finished.json" in refused.document["error"]["remedy"]

    finished.unlink()
    document = cli.run_well("train", "demo")
    assert document["attempts"] == 2
    assert [start["start_step"] > 0 for start in attempts_of(cli)] == [False, True]
    assert weights_of(cli) == reference.weights()


def attempts_of(cli: Cli) -> list[dict[str, Any]]:
    return [
        json.loads(path.read_text()) for path in sorted(cli.workspace.glob("runs/*/attempts/*"))
    ]


def test_other_numbers_of_workers_train_on_the_same_batches(
    reference: Reference, tmp_path: Path
) -> None:
    """Three until the driver is killed, two afterwards; the undisturbed run has one."""
    cli, log = reference.cli.copy(tmp_path / "workspace"), tmp_path / "log"
    logged = [f"train.sample_log={log}"]
    cli.kill_when(
        lambda: cli.has_checkpoint(step=21),
        "train",
        "demo",
        settings=[*logged, "scaling.workers=3"],
    )
    cli.run_well("evaluate", "demo", settings=[*logged, "scaling.workers=2"])
    run_key = reference.document["run_key"]
    assert [path.name for path in log.iterdir()] == [run_key]
    check_tracking(cli, reference)
    check_epochs(log, run_key)
    rows = effective_rows(log, run_key)
    assert set(rows["world_size"].to_pylist()) == {2, 3}
    assert ids_by_step(rows) == ids_by_step(effective_rows(reference.log, run_key))
