import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from alexnet.evaluate.evaluation import Accuracy, Evaluation
from alexnet.release.gate import Verdict
from alexnet.release.registration import Registration
from alexnet.release.settings import RegisterSettings
from alexnet.train.attempts import claim_attempt
from alexnet.train.checkpoint import list_checkpoints
from alexnet.train.training_receipt import commit_training
from infra.commit import write_object
from infra.errors import DataError, ObjectCorrupt
from infra.parquet import parquet_bytes
from infra.store import FolderStore
from infra.tracking.base import RunStatus
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace
from infra.tracking.run_note import open_run
from pipelines.lookup.inspection import inspect_uri
from pipelines.recipe_yaml import load_recipe
from preprocessing.dataset.manifest import MANIFEST

REJECT = {
    "split": "val",
    "sample_id": 3,
    "archive": "ILSVRC2012_img_val.tar",
    "member": "ILSVRC2012_val_00000004.JPEG",
    "start": 512,
    "size_bytes": 100,
    "reason": "not an image",
    "first_bytes": "3c68746d6c3e",
}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "thing")


def look(store: FolderStore, **options: Any) -> dict[str, Any]:
    found = inspect_uri(store.uri, workspace="/nowhere", tracking_uri=None, **options)
    json.dumps(found)  # --json prints it
    return found


def write_dataset(store: FolderStore, tiny_training: Any) -> None:
    shutil.copytree(tiny_training.store.uri, store.uri)
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([REJECT]), body)
    rejects = write_object(store, "rejects.parquet", body.getvalue())
    members = write_object(store, "members.parquet", parquet_bytes(members_table(store)))
    changed = {"rejects": rejects, "members": members}
    store.write(MANIFEST, tiny_training.manifest.model_copy(update=changed).to_bytes())


def members_table(store: FolderStore) -> pa.Table:
    """The train split's members, the last first, and one of val."""
    rows = pq.read_table(io.BytesIO(store.read("train/part-0.parquet"))).to_pylist()
    listed = [("train", row["sample_id"], f"n{row['label']:08}") for row in reversed(rows)]
    listed.append(("val", 0, "n00000000"))
    names = ("split", "sample_id", "wnid")
    return pa.table({name: [row[i] for row in listed] for i, name in enumerate(names)})


def test_a_dataset_is_told_as_prepare_tells_it_and_more(
    store: FolderStore, tiny_training: Any
) -> None:
    write_dataset(store, tiny_training)
    found = look(store)
    assert found["kind"] == "dataset"
    assert found["uri"] == store.uri
    assert (found["train"], found["val"]) == ({"count": 20}, {"count": 150})
    assert (found["num_classes"], found["stored_px"]) == (7, [48, 48])
    assert found["options"] is None
    assert found["num_shards"] == {"train": 1, "val": 2}
    assert found["rejects"][0]["member"] == "ILSVRC2012_val_00000004.JPEG"
    assert len(found["fingerprint"]) == 64
    mixed = found["class_entropy_bits"]
    assert [mixed[f"per_{what}"]["num_groups"] for what in ("shard", "row_group")] == [1, 1]
    # One shard has all there is, in whatever order.
    assert mixed["per_shard"]["mean_bits"] == mixed["per_shard"]["uniform_mean_bits"] > 1
    assert mixed["per_global_batch"]["ratio"] == 1


def test_a_dataset_that_lacks_a_shard_is_said_to(store: FolderStore, tiny_training: Any) -> None:
    write_dataset(store, tiny_training)
    store.delete("val/part-1.parquet")
    with pytest.raises(ObjectCorrupt, match=r"val/part-1\.parquet is missing"):
        look(store)


def test_a_checkpoint(tiny_training: Any) -> None:
    found = look(tiny_training.checkpoint)
    assert found["kind"] == "checkpoint"
    assert (found["global_step"], found["epoch"], found["num_classes"]) == (0, 0, 7)
    assert found["network"]["name"] == "alexnet-2012"
    assert found["dataset_fingerprint"] == tiny_training.manifest.fingerprint


def start_run(store: FolderStore, tiny_training: Any) -> None:
    store.create("run.json", load_recipe("demo").model_dump_json().encode())
    claim_attempt(store, start_step=0, world_size=2)
    checkpoint = Path(tiny_training.checkpoint.uri)
    shutil.copytree(checkpoint, Path(store.uri) / "checkpoints" / checkpoint.name)


def test_a_run_that_has_just_begun(store: FolderStore) -> None:
    store.create("run.json", load_recipe("demo").model_dump_json().encode())
    found = look(store)
    assert (found["kind"], found["status"], found["attempts"]) == ("run", "UNFINISHED", 0)
    assert (found["checkpoint"], found["mlflow_run_id"], found["global_step"]) == (None, None, 0)
    assert found["recipe"]["register"] == {"model_name": "alexnet"}


def test_a_run_whose_recipe_was_cut_is_named(store: FolderStore) -> None:
    store.create("run.json", b'{"name": ')
    with pytest.raises(ObjectCorrupt, match=r"thing/run\.json cannot be read"):
        look(store)


def test_a_run_by_its_name_and_a_folder_of_that_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, elsewhere = FolderStore(tmp_path / "workspace"), tmp_path / "elsewhere"
    run = workspace.child("runs/demo-11aa22bb33cc44dd")
    run.create("run.json", load_recipe("demo").model_dump_json().encode())
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def look_for(name: str) -> dict[str, Any]:
        return inspect_uri(name, workspace=workspace.uri, tracking_uri=None)

    assert look_for("demo-11aa") == look_for(run.uri)
    with pytest.raises(DataError, match="'demo-2' is no training of the workspace"):
        look_for("demo-2")
    (elsewhere / "demo-11aa").mkdir()
    with pytest.raises(DataError, match="is no dataset, run, checkpoint"):
        look_for("demo-11aa")


def test_an_unfinished_run_shows_where_it_would_go_on(
    store: FolderStore, tiny_training: Any, mlflow_place: TrackingPlace
) -> None:
    start_run(store, tiny_training)
    run_id = open_run(MlflowTracker(mlflow_place), store, run_key="k", run_name="n", timeout_s=30)
    found = look(store)
    assert (found["kind"], found["status"], found["attempts"]) == ("run", "UNFINISHED", 1)
    assert found["checkpoint"] == f"{store.uri}/checkpoints/step-00000000-a0001"
    assert found["checkpoints"] == [found["checkpoint"]]
    assert found["starts"] == [{"number": 1, "start_step": 0, "world_size": 2, "use_gpu": False}]
    assert found["mlflow_run_id"] == run_id


def test_a_finished_run_is_told_as_train_tells_it(store: FolderStore, tiny_training: Any) -> None:
    start_run(store, tiny_training)
    (last,) = list_checkpoints(store, [])
    commit_training(store, "k" * 64, last)
    found = look(store)
    assert (found["kind"], found["status"]) == ("run", RunStatus.FINISHED)
    assert found["run_key"] == "k" * 64
    assert found["recipe"]["name"] == "demo"
    inspected = inspect_uri(found["checkpoint"], workspace="/nowhere", tracking_uri=None)
    assert inspected["kind"] == "checkpoint"


def test_an_evaluation(store: FolderStore) -> None:
    parts = {
        name: write_object(store, f"{name}.parquet", b"x")
        for name in ("per_class", "confusion", "predictions")
    }
    center = Accuracy(top1=0.5, top5=1.0, correct1=2, correct5=4, loss=0.75)
    evaluation = Evaluation(
        key="k",
        dataset_fingerprint="f" * 64,
        validation_digest="1" * 64,
        classes_digest="2" * 64,
        checkpoint_digest="3" * 64,
        step=9,
        count=4,
        center=center,
        ten_crop=None,
        **parts,
    )
    store.create("evaluation.json", evaluation.to_bytes())
    found = look(store)
    assert (found["kind"], found["uri"]) == ("evaluation", store.uri)
    assert (found["count"], found["loss"], found["global_step"]) == (4, 0.75, 9)
    assert found["center"] == center.model_dump()
    assert found["ten_crop"] is None
    assert found["model_sha256"] == "3" * 64


def verdict(*, accepted: bool, champion: str | None) -> Verdict:
    return Verdict(
        verdict="accepted" if accepted else "refused",
        reasons=("because",),
        champion=champion,
        top1=0.5,
        champion_top1=None,
        mcnemar_p=None,
        per_class_regressions=(),
    )


def test_of_several_verdicts_the_newest_is_told(store: FolderStore) -> None:
    store.create("verdict-0001.json", verdict(accepted=True, champion=None).to_bytes())
    store.create("verdict-0002.json", verdict(accepted=False, champion="7").to_bytes())
    found = look(store)
    assert (found["kind"], found["verdict"], found["champion"]) == ("verdict", "refused", "7")


def test_a_registration(store: FolderStore) -> None:
    registration = Registration(
        key="k",
        model_name="alexnet",
        version="3",
        model_uri="models:/alexnet/3",
        aliases=("challenger",),
        registry_id="r",
    )
    store.create("registration.json", registration.to_bytes())
    assert look(store) == {
        "kind": "registration",
        "model_uri": "models:/alexnet/3",
        "version": "3",
        "aliases": ["challenger"],
    }


def test_a_folder_of_nothing_of_ours(store: FolderStore) -> None:
    store.write("readme.txt", b"hello")
    with pytest.raises(DataError, match="is no dataset, run, checkpoint, evaluation, verdict"):
        look(store)


def test_a_place_that_is_not_there(store: FolderStore) -> None:
    with pytest.raises(DataError, match="is no dataset"):
        look(store)
    assert not Path(store.uri).exists()


@pytest.mark.parametrize(
    "uri",
    [
        "models:/",
        "models:/alexnet",
        "models:/alexnet/",
        "models:/alexnet@",
        "models:/@champion",
        "models://alexnet/1",
        "models:/alexnet/1@champion",
        "models:/alexnet/1/2",
    ],
)
def test_what_names_no_model_is_refused_before_mlflow_is_asked(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        inspect_uri(uri, workspace=str(tmp_path), tracking_uri=None)
    assert caught.value.problem == f"{uri} names no registered model"
    assert caught.value.remedy == "write models:/NAME/VERSION or models:/NAME@ALIAS"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["alexnet", "a b", "A.1_-", "りんご", "a" * 256])
def test_a_name_that_a_recipe_takes_is_one_that_mlflow_takes_and_that_is_found_again(
    name: str, mlflow_place: TrackingPlace
) -> None:
    from alexnet.release.registry import ModelRegistry

    assert RegisterSettings(model_name=name).model_name == name
    assert ModelRegistry(mlflow_place.uri, name).registry_id()
    with pytest.raises(DataError, match="is not in the registry"):
        inspect_uri(f"models:/{name}/1", workspace="/w", tracking_uri=mlflow_place.uri)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a ",
        "\ta",
        ".",
        "..",
        "..a",
        "a@b",
        "a/b",
        "a:b",
        "a'b",
        'a"b',
        "a`b",
        "a\nb",
        "a" * 257,
    ],
)
def test_a_name_that_could_not_be_registered_or_not_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        RegisterSettings(model_name=name)


@pytest.mark.parametrize("uri", ["models:/alexnet/1", "models:/alexnet@champion"])
def test_a_model_that_is_not_registered(uri: str, mlflow_place: TrackingPlace) -> None:
    folder = Path(mlflow_place.uri.removeprefix("sqlite:///")).parent
    with pytest.raises(DataError, match=re.escape(f"{uri} is not in the registry of {folder}")):
        inspect_uri(uri, workspace=str(folder), tracking_uri=None)


def test_a_model_that_the_named_server_does_not_have(
    mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> DataError:
        with pytest.raises(DataError, match=re.escape(mlflow_place.uri)) as caught:
            inspect_uri("models:/x@champion", workspace="/w", tracking_uri=mlflow_place.uri)
        return caught.value

    assert "$MLFLOW_TRACKING_URI" not in look().remedy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_place.uri)
    assert "$MLFLOW_TRACKING_URI is set, so that server was asked" in look().remedy


def test_looking_for_a_model_makes_no_workspace_of_a_mistyped_name(tmp_path: Path) -> None:
    typo = str(tmp_path / "typo")
    with pytest.raises(DataError, match=re.escape(f"is not in the registry of {typo}")):
        inspect_uri("models:/alexnet@champion", workspace=typo, tracking_uri=None)
    assert list(tmp_path.iterdir()) == []


def test_a_registered_model(mlflow_place: TrackingPlace) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_place.uri, registry_uri=mlflow_place.uri)
    client.create_registered_model("mine")
    source = Path(mlflow_place.uri.removeprefix("sqlite:///")).parent / "a model"
    client.create_model_version("mine", source=source.as_uri(), tags={"alexnet.key": "k"})
    client.set_registered_model_alias("mine", "champion", "1")
    for uri in ("models:/mine/1", "models:/mine@champion"):
        found = inspect_uri(uri, workspace="/nowhere", tracking_uri=mlflow_place.uri)
        assert found["kind"] == "model"
        assert (found["model_uri"], found["version"]) == ("models:/mine/1", "1")
        assert found["aliases"] == ["champion"]
        assert found["tags"] == {"alexnet.key": "k"}


def test_a_report_is_its_page(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "reports" / "r")
    store.create("report.json", b"{}")
    found = inspect_uri(store.uri, workspace=str(tmp_path), tracking_uri=None)
    assert found == {"kind": "report", "report": f"{store.uri}/report.html"}
