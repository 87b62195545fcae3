"""The registry from end to end, on a real MLflow with sqlite."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from alexnet.evaluate.evaluation import open_evaluation, read_predictions
from alexnet.evaluate.execute import evaluate
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.release.contender import read_contender
from alexnet.release.errors import ChampionMoved, ModelNotServable
from alexnet.release.gate import Verdict, judge
from alexnet.release.package import open_package
from alexnet.release.register import Candidate, register
from alexnet.release.registration import Registration, parse_registration
from alexnet.release.registry import ModelRegistry, translated
from alexnet.release.settings import GateSettings
from alexnet.release.trial import STDERR_CHARACTERS, _run_fresh, check_answers, try_model
from infra.errors import TrackingError
from infra.store import FolderStore

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    folder = tmp_path_factory.mktemp("mlflow")
    return ModelRegistry(f"sqlite:///{folder}/mlflow.db", "alexnet")


@pytest.fixture(scope="module")
def run_id(registry: ModelRegistry) -> str:
    """A training's run, finished."""
    client = MlflowClient(registry.tracking_uri)
    folder = Path(registry.tracking_uri.removeprefix("sqlite:///")).parent / "artifacts"
    experiment = client.create_experiment("training", artifact_location=folder.as_uri())
    run = client.create_run(experiment)
    client.log_param(run.info.run_id, "seed", 0)
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


@pytest.fixture(scope="module")
def candidate(
    ray_local: Any, tiny_training: Any, run_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Candidate:
    place = FolderStore(tmp_path_factory.mktemp("evaluation"))
    evaluate(
        trained=tiny_training.trained,
        dataset=tiny_training.store,
        manifest=tiny_training.manifest,
        settings=EvaluateSettings(),
        place=place,
        key="k",
    )
    return Candidate(
        trained=tiny_training.trained,
        dataset=tiny_training.store,
        manifest=tiny_training.manifest,
        evaluation=place,
        run_key="r",
        run_id=run_id,
    )


@pytest.fixture(scope="module")
def verdict(candidate: Candidate) -> Verdict:
    classes = candidate.trained.load_classes()
    return judge(read_contender(candidate.evaluation, "run r"), None, GateSettings(), classes)


@pytest.fixture(scope="module")
def first(
    registry: ModelRegistry,
    candidate: Candidate,
    verdict: Verdict,
    tmp_path_factory: pytest.TempPathFactory,
) -> Registration:
    """Registered from the folder of someone's project."""
    project = tmp_path_factory.mktemp("project")
    (project / "uv.lock").write_text("version = 1\n")
    (project / "pyproject.toml").write_text('[project]\nname = "theirs"\nversion = "1"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        return register(
            registry, candidate, verdict, key="one", expected_champion=None, turn=nullcontext()
        )


def test_the_first_version_becomes_challenger_and_champion(
    registry: ModelRegistry, first: Registration, candidate: Candidate
) -> None:
    assert first.model_uri == "models:/alexnet/1"
    assert first.aliases == ("challenger", "champion")
    assert parse_registration(first.to_bytes(), "r") == first
    assert first.registry_id == registry.registry_id() != ""
    found = registry.find("one")
    assert found is not None
    assert found.run_id == candidate.run_id
    assert found.tags["alexnet.evaluation_uri"] == candidate.evaluation.uri
    assert found.tags["alexnet.verdict"] == "accepted"


def test_logging_the_model_leaves_the_run_finished_and_pickles_nothing(
    registry: ModelRegistry, first: Registration, run_id: str, tmp_path: Path
) -> None:
    run = MlflowClient(registry.tracking_uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.outputs.model_outputs
    registry.download(first.version, tmp_path)
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"MLmodel", "weights.safetensors", "model.json", "pyfunc_model.py"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pyc"))]
    assert not files & {"uv.lock", "pyproject.toml"}


def test_registering_again_makes_no_second_version(
    registry: ModelRegistry, first: Registration, candidate: Candidate, verdict: Verdict
) -> None:
    again = register(
        registry, candidate, verdict, key="one", expected_champion=None, turn=nullcontext()
    )
    assert again.version == first.version == "1"


def test_the_champion_answers_in_a_fresh_process(
    registry: ModelRegistry, first: Registration, candidate: Candidate, tmp_path: Path
) -> None:
    try_model(
        "models:/alexnet@champion",
        registry.tracking_uri,
        dataset=candidate.dataset,
        manifest=candidate.manifest,
        predictions=read_predictions(candidate.evaluation, open_evaluation(candidate.evaluation)),
    )


def test_the_model_brings_its_own_code_and_takes_plain_arrays(
    registry: ModelRegistry, first: Registration, tmp_path: Path
) -> None:
    program = """
import json, mlflow, numpy, sys
model = mlflow.pyfunc.load_model("models:/alexnet@champion")
plain = model.unwrap_python_model()
answers = plain.predict(None, numpy.zeros((2, 60, 50, 3), numpy.uint8))
import alexnet.inference.predictor as used
try:
    plain.predict(None, [b"no image"])
except Exception as error:
    print(json.dumps([len(answers), used.__file__, str(error)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": registry.tracking_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, used, error = json.loads(done.stdout)
    assert count == 2
    assert "code/alexnet/inference" in used
    assert error.startswith("image 0 ")


def test_a_registered_model_can_be_evaluated_like_a_checkpoint(
    registry: ModelRegistry, first: Registration, candidate: Candidate, tmp_path: Path
) -> None:
    trained = open_package(FolderStore(registry.download(first.version, tmp_path / "model")))
    again = evaluate(
        trained=trained,
        dataset=candidate.dataset,
        manifest=candidate.manifest,
        settings=EvaluateSettings(),
        place=FolderStore(tmp_path / "evaluation"),
        key="k",
    )
    assert again == open_evaluation(candidate.evaluation)


def test_aliases_move_as_the_gate_says(
    registry: ModelRegistry, first: Registration, candidate: Candidate, verdict: Verdict
) -> None:
    """Several steps of one story: each registration is costly."""
    mine = ModelRegistry(registry.tracking_uri, "moving")
    assert mine.champion() is None
    one = register(mine, candidate, verdict, key="one", expected_champion=None, turn=nullcontext())
    refused = verdict.model_copy(update={"verdict": "refused"})
    two = register(
        mine, candidate, refused, key="two", expected_champion=one.version, turn=nullcontext()
    )
    assert two.aliases == ("challenger",)
    assert mine.aliases(one.version) == ("champion",)

    with pytest.raises(ChampionMoved, match="champion none of moving, which is now 1"):
        register(mine, candidate, verdict, key="three", expected_champion=None, turn=nullcontext())
    assert mine.find("three") is None

    accepted = register(
        mine, candidate, verdict, key="two", expected_champion=one.version, turn=nullcontext()
    )
    assert accepted.version == two.version
    assert accepted.aliases == ("challenger", "champion")
    assert mine.aliases(one.version) == ()
    assert registry.registry_id() != mine.registry_id()


def test_a_model_that_answers_otherwise_is_not_registered(
    registry: ModelRegistry, candidate: Candidate, verdict: Verdict
) -> None:
    expected = np.array([[0.7, 0.3], [0.5, 0.5]])
    check_answers("center", {"label": [0, 1], "probability": [0.7, 0.5]}, expected)
    for label, probability in ((1, 0.3), (0, 0.6), (0, float("nan"))):
        answers = {"label": [label, 0], "probability": [probability, 0.5]}
        with pytest.raises(ModelNotServable, match="image 0"):
            check_answers("center", answers, expected)


def test_a_model_that_cannot_be_loaded_is_not_registered(
    registry: ModelRegistry, candidate: Candidate
) -> None:
    with pytest.raises(ModelNotServable, match="fresh process, failed"):
        try_model(
            "models:/m-0",
            registry.tracking_uri,
            dataset=candidate.dataset,
            manifest=candidate.manifest,
            predictions=read_predictions(
                candidate.evaluation, open_evaluation(candidate.evaluation)
            ),
        )


def test_what_a_fresh_process_says_of_a_server_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the text is cut may be within the URI."""
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\n"
        f"printf '%s %{STDERR_CHARACTERS - 20}s' \"$MLFLOW_TRACKING_URI\" 'is away' >&2; exit 1\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelNotServable, match=r"127\.0\.0\.1:9 +is away") as raised:
        _run_fresh("models:/m-0", "http://me:very-secret@127.0.0.1:9", tmp_path)
    assert "secret" not in raised.value.problem


def test_a_server_that_is_not_there_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 failed") as raised:
        ModelRegistry("http://me:secret@127.0.0.1:9", "alexnet").champion()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("kind", [OSError, MlflowException])
def test_a_full_disk_is_not_called_the_servers_fault(kind: type[Exception]) -> None:
    with pytest.raises(TrackingError) as raised, translated("http://127.0.0.1:9"):
        raise kind("##### File weights.safetensors #####\n[Errno 28] No space left on device")
    assert "$TMPDIR" in raised.value.remedy
