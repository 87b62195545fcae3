import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, NoCredentialsError
from mlflow.exceptions import MlflowException
from mlflow_window import MlflowWindow
from sqlalchemy.exc import OperationalError

from alexnet.release.registry import translated
from infra.errors import TrackingError
from infra.store import MemoryStore
from infra.tracking.mlflow_client import is_mlflows
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for

URI = "http://me:secret@127.0.0.1:9"


class NoSuchBucket(ClientError):
    """As botocore makes them, of a module of its own."""


THEIRS = [
    MlflowException("no such run"),
    OperationalError("SELECT", {}, ValueError("locked")),
    ConnectionError("refused"),
    NoCredentialsError(),
    NoSuchBucket({"Error": {"Code": "NoSuchBucket"}}, "ListObjectsV2"),
    S3UploadFailedError("denied"),
    ModuleNotFoundError("No module named 'google.cloud'"),
]


@pytest.mark.parametrize("error", THEIRS, ids=lambda error: type(error).__name__)
def test_what_mlflow_and_its_drivers_raise_is_told_as_theirs(error: Exception) -> None:
    tracker = MlflowTracker(place_for(MemoryStore(), URI))
    told = pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9")
    with told as caught, tracker._translated("send files"):
        raise error
    assert "secret" not in caught.value.problem
    with pytest.raises(TrackingError), translated(URI):
        raise error


def test_a_run_says_who_made_it_with_what(
    mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["https://me:secret@host/program?token=secret"])
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr("mlflow.utils.git_utils.get_git_commit", lambda path: f"commit of {path}")
    run_id = MlflowTracker(mlflow_place).create_run(run_key="k", run_name="n", tags={"a": "b"})
    tags = MlflowWindow(mlflow_place).tags(run_id)
    assert (tags["mlflow.user"], tags["mlflow.source.name"]) == ("ada", "program")
    assert tags["mlflow.source.git.commit"].endswith("infra/tracking")
    assert (tags["a"], tags["alexnet.run_key"]) == ("b", "k")
    assert "secret" not in str(tags)


@pytest.mark.parametrize("error", [ValueError("of ours"), AttributeError("of ours")])
def test_a_mistake_of_ours_stays_one(error: Exception) -> None:
    assert not is_mlflows(error)
    with pytest.raises(type(error)), translated(URI):
        raise error
