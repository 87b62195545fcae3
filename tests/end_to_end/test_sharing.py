"""Many processes on one workspace, and a workspace that moves."""

import shutil
from pathlib import Path

import pytest
from end_to_end_tools import SMALL, Cli, Reference
from mlflow.tracking import MlflowClient

from alexnet.release.package import open_package
from alexnet.release.registry import ModelRegistry
from infra.store import FolderStore

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

PROCESSES = 8


def test_of_eight_processes_one_works_and_all_end_with_its_results(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "workspace", settings=(*SMALL, "train.epochs=2"))
    processes = [cli.start("run", "demo") for _ in range(PROCESSES)]
    ended = [process.communicate(timeout=400) for process in processes]
    for process, (_, err) in zip(processes, ended, strict=True):
        assert process.returncode == 0, err
    documents = [cli.parse(out) for out, _ in ended]

    for step in range(6):
        states = [document["steps"][step]["state"] for document in documents]
        assert sorted(states) == ["holds"] * (PROCESSES - 1) + ["ran"]
    for name in ("uri", "fingerprint", "checkpoint", "model_uri", "mlflow_run_id", "center"):
        assert all(document[name] == documents[0][name] for document in documents), name
    assert documents[0]["attempts"] == 1
    client = MlflowClient(f"sqlite:///{cli.workspace}/mlflow.db")
    assert len(client.search_model_versions("name = 'alexnet'")) == 1
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo"]
    assert len(client.search_runs([experiment.experiment_id])) == 1
    # Nothing torn: no half-written file is left, and there is one of each folder.
    assert not cli.has("**/.writing-*")
    for kind in ("datasets", "runs", "evaluations", "gates", "registrations", "reports"):
        assert len(list(cli.workspace.glob(f"{kind}/*"))) == 1


def test_a_workspace_that_moves_goes_on_where_it_is(reference: Reference, tmp_path: Path) -> None:
    copied = reference.cli.copy_all(tmp_path / "first")
    moved = Cli(tmp_path / "second", settings=copied.settings)
    shutil.move(copied.workspace, moved.workspace)

    document = moved.run_well("run", "demo")
    assert {step["state"] for step in document["steps"]} == {"holds"}
    # One epoch more on it is no champion, but it is registered, beside the one that came along.
    more = moved.run("run", "demo", settings=["train.epochs=1"])
    assert (more.code, more.document["version"]) == (5, "2"), more.err
    registry = ModelRegistry(f"sqlite:///{moved.workspace}/mlflow.db", "alexnet")
    for version in ("1", "2"):
        package = registry.download(version, tmp_path / version)
        assert open_package(FolderStore(package)).network.name == "alexnet-2012"
    assert not copied.workspace.exists()
