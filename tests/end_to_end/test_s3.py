"""The whole run in S3: the server dies and comes back, a half-done workspace moves there."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from end_to_end_tools import (
    Cli,
    Reference,
    Services,
    check_epochs,
    check_points,
    copy_objects,
)
from s3_servers import FaultyServer, RealServer

from alexnet.train.attempts import read_attempts
from infra.store import FolderStore, ObjectStore
from infra.store.s3 import S3Store
from infra.tracking.run_note import read_notes

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(600)]

OUTAGE_S = float(os.environ.get("ALEXNET_TEST_OUTAGE_S", "5"))


def ends_there(store: ObjectStore, folder: str, ending: str) -> int:
    """Count the objects below a folder whose names end so."""
    return sum(info.key.endswith(ending) for info in store.list(folder))


class Outage(threading.Thread):
    """Kills the gateway once something is reached; brings it back after a while."""

    def __init__(self, server: RealServer, reached: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._server, self._reached = server, reached
        self.start()

    def run(self) -> None:
        while not self._reached():
            time.sleep(0.05)
        self._server.kill()
        time.sleep(OUTAGE_S)
        self._server.start()


def test_a_gateway_that_dies_in_prepare_and_in_training_changes_nothing(
    killable_s3: RealServer,
    services: Services,
    s3_store: S3Store,
    reference: Reference,
    tmp_path: Path,
) -> None:
    cli = services.cli(s3_store)
    settings = [f"train.sample_log={s3_store.uri}/log", "register.model_name=on-s3"]
    in_prepare = Outage(killable_s3, lambda: ends_there(s3_store, "datasets/", ".parquet") >= 2)
    process = cli.start("run", "demo", settings=settings)
    in_prepare.join()
    in_training = Outage(
        killable_s3, lambda: ends_there(s3_store, "runs/", "a0001/receipt.json") >= 1
    )
    _, err = process.communicate(timeout=300 + 2 * OUTAGE_S)
    in_training.join()
    assert process.returncode == 0, err

    document = cli.run_well("run", "demo", settings=settings)
    assert {step["state"] for step in document["steps"]} == {"holds"}
    assert document["attempts"] == 1
    assert document["fingerprint"] == reference.document["fingerprint"]
    assert document["center"] == reference.document["center"]
    assert model_of(s3_store) == reference.weights()
    check_points(services.mlflow.uri, document["mlflow_run_id"], reference)
    copy_objects(s3_store.child("log"), FolderStore(tmp_path / "log"))
    check_epochs(tmp_path / "log", document["run_key"])


def test_a_workspace_that_was_killed_half_way_goes_on_in_s3(
    services: Services, s3_store: S3Store, reference: Reference, tmp_path: Path
) -> None:
    """Its run is new to that MLflow, and gets every point from the journal."""
    killed = reference.cli.copy(tmp_path / "workspace")
    killed.kill_when(
        lambda: killed.has_checkpoint(step=35),
        "train",
        "demo",
        children_too=True,
    )
    copy_objects(FolderStore(killed.workspace), s3_store)
    cli = services.cli(s3_store)
    document = cli.run_well("evaluate", "demo")
    assert document["center"] == reference.document["center"]
    assert model_of(s3_store) == reference.weights()
    (name,) = {info.key.split("/")[1] for info in s3_store.list("runs/")}
    run = s3_store.child(f"runs/{name}")
    assert len(read_attempts(run)) == 2
    check_points(services.mlflow.uri, read_notes(run)[-1].run_id, reference)


def test_of_three_that_prepare_in_one_new_place_one_works(
    services: Services, s3_store: S3Store
) -> None:
    cli = services.cli(s3_store)
    tiny = ["dataset.drawn.train_per_class=20", "dataset.drawn.val_per_class=5"]
    processes = [cli.start("prepare", "demo", settings=tiny) for _ in range(3)]
    ended = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, ended
    first, *others = (cli.parse(out) for out, _ in ended)
    assert others == [first] * 2
    assert (first["train"], first["val"]) == ({"count": 200}, {"count": 50})
    assert sum("250 images in" in err for _, err in ended) == 1  # who made it says so
    for folder, ending in (("datasets/", "/manifest.json"), ("archives/", "/drawn.json")):
        assert ends_there(s3_store, folder, ending) == 1
    assert ends_there(s3_store, "datasets/", ".parquet") == first["num_shards"] + 2


def model_of(store: S3Store) -> str:
    (receipt,) = [info.key for info in store.list("runs/") if info.key.endswith("finished.json")]
    digest: str = json.loads(store.read(receipt))["model_sha256"]
    return digest


def refused(cli: Cli, code: int, *words: str, **environment: str) -> None:
    """Run a command that must end so within a minute, with one message and nothing made."""
    started = time.monotonic()
    other = replace(cli, environment={**cli.environment, **environment})
    result = other.run("run", "demo")
    assert time.monotonic() - started < 60
    assert "Traceback" not in result.err, result.err
    assert result.code == code, result.err
    error = result.document["error"]
    for word in words:
        assert word in f"{error['message']} {error['remedy']}", error
    assert other.environment["AWS_SECRET_ACCESS_KEY"] not in result.out + result.err


def test_a_place_in_s3_that_cannot_be_used_is_refused_in_time(
    services: Services, s3_store: S3Store
) -> None:
    cli = services.cli(s3_store)
    nowhere = "http://127.0.0.1:9"
    no_bucket = services.cli(S3Store("no-such-bucket", "x"))
    untracked = Cli(s3_store.uri, environment=cli.environment)
    client = "ray://head:10001"
    with ThreadPoolExecutor(2) as pool:
        ended = [
            pool.submit(refused, cli, 4, nowhere, "AWS_ENDPOINT_URL", AWS_ENDPOINT_URL=nowhere),
            pool.submit(refused, cli, 4, "SignatureDoesNotMatch", AWS_SECRET_ACCESS_KEY="wrong"),
            pool.submit(refused, no_bucket, 4, "NoSuchBucket", "no-such-bucket"),
            pool.submit(refused, untracked, 2, "MLflow", s3_store.uri),
            pool.submit(refused, cli, 2, client, "ray job submit", RAY_ADDRESS=client),
            pool.submit(refused, cli, 2, "ray job submit", RAY_ADDRESS="http://127.0.0.1:8265"),
        ]
    for one in ended:
        one.result()
    assert list(s3_store.list()) == []
    refused(cli, 4, "127.0.0.1:9", "ray start", RAY_ADDRESS="127.0.0.1:9")
    assert ends_there(s3_store, "datasets/", ".parquet") == 0


def test_a_store_without_conditional_put_is_refused_by_name(
    services: Services, faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    faulty_s3.add_fault("ignore-conditions")
    s3 = replace(services, s3=faulty_s3)
    refused(s3.cli(faulty_store), 4, "lacks conditional put", "storage check")
    result = subprocess.run(
        [str(Path(sys.executable).with_name("alexnet")), "storage", "check", faulty_store.uri],
        env={**os.environ, **faulty_s3.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 4
    assert "conditional put                    it overwrites an object" in result.stderr
    assert "lacks conditional put" in result.stderr
    assert list(faulty_store.list()) == []
