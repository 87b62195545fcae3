"""Options that only the command line has to sort out; what commands do is tested elsewhere."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.errors import Interrupted
from pipelines import api, command
from pipelines.cli import app
from pipelines.defaults import package_version
from pipelines.inference import prediction
from pipelines.recipe import Recipe
from pipelines.recipe_yaml import recipe_text
from preprocessing.settings import DatasetSettings

STEPS = ("prepare", "train", "evaluate", "gate", "register", "report")


def test_runs_takes_its_options_before_and_after_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compare(names: list[str], **options: Any) -> dict[str, Any]:
        asked.append((names, options["workspace"]))
        return {"link": None}

    monkeypatch.setattr(api, "compare_runs", compare)
    place = ["--workspace", str(tmp_path), "--json"]
    for words in (["runs", *place, "compare", "a", "b"], ["runs", "compare", "a", "b", *place]):
        result = CliRunner().invoke(app, words)
        assert json.loads(result.stdout) == {"link": None}
    assert asked == [(["a", "b"], str(tmp_path))] * 2
    listed = CliRunner().invoke(app, ["runs", *place])
    assert json.loads(listed.stdout) == {"runs": []}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_of_a_recipe_takes_a_folder_in_the_place_of_its_images(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, DatasetSettings]] = []

    def run_command(recipe: Recipe, until: str, **_: object) -> None:
        asked.append((until, recipe.dataset))

    monkeypatch.setattr(command, "run_command", run_command)
    words = [step, "imagenette-cpu", "--from-folder", "My Images"]
    result = CliRunner().invoke(app, [*words, "--set", "dataset.name=mine"])
    assert result.exit_code == 0, result.output
    ((until, dataset),) = asked
    assert until == step
    assert (dataset.folder, dataset.archives, dataset.name) == ("My Images", None, "mine")


def test_an_interrupted_prediction_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", interrupted)
    result = CliRunner().invoke(app, ["predict", "m", "a.jpg"])
    assert isinstance(result.exception, Interrupted)
    assert result.exception.problem == "interrupted; nothing was written"


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    assert CliRunner().invoke(app, ["--version"]).stdout == f"{package_version()}\n"
    monkeypatch.setattr("importlib.metadata.version", nothing)
    assert package_version() == "unknown"


@pytest.mark.parametrize(("level", "code"), [("debug", 0), ("", 0), ("CHATTY", 2)])
def test_the_level_of_logging_is_one_there_is(level: str, code: int) -> None:
    words = [sys.executable, "-m", "pipelines.cli", "recipes", "--json"]
    environment = {**os.environ, "ALEXNET_LOG": level}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    if code:
        error = json.loads(done.stdout)["error"]
        assert error["message"] == "$ALEXNET_LOG is 'CHATTY', which is no level of logging"
        assert "DEBUG, INFO, WARNING" in error["remedy"]


ALEXNET = [sys.executable, "-m", "pipelines.cli"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run", "demo", "--jobs", "3", "--json"], "No such option: --jobs"),
        (["predict", "--json"], "Missing argument 'MODEL'"),
        (
            ["predict", "m", "a.jpg", "--all-probabilities", "--json"],
            "Invalid value for --all-probabilities: needs --output FILE.parquet",
        ),
        (["similar", "m", "a", "--among", "b", "--count", "0", "--json"], "Invalid value for"),
        (["rnu", "--json"], "No such command 'rnu'"),
    ],
)
def test_a_wrong_word_is_an_error_that_a_program_can_read(words: list[str], problem: str) -> None:
    done = subprocess.run([*ALEXNET, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["message"].startswith(problem)
    assert (error["type"], error["exit_code"]) == ("RecipeError", 2)
    assert f"error: {problem}" in done.stderr


def test_without_json_a_wrong_word_is_told_with_the_usage() -> None:
    words = [*ALEXNET, "run", "demo", "--jobs", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "No such option: --jobs" in done.stderr


@pytest.mark.parametrize("words", [["recipes", "--json"], ["recipes"]])
def test_a_reader_that_leaves_is_no_crash(words: list[str]) -> None:
    with subprocess.Popen(
        [*ALEXNET, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
    assert "Traceback" not in told
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("closed", "code"), [("2>&-", 0), (">&-", 0), ("<&- >&- 2>&-", 0), ("2>&- --set x", 2)]
)
def test_a_stream_that_the_shell_closed_is_no_crash(closed: str, code: int) -> None:
    command = " ".join([*ALEXNET, "recipes", "show", "demo", "--json", closed])
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr == ""
    if closed.startswith("2"):
        json.loads(done.stdout)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_standard_output_lacks_are_escaped(tmp_path: Path, encoding: str) -> None:
    recipe = tmp_path / "mine.yaml"
    text = recipe_text("demo")
    recipe.write_text(f"{text}\nrun: {{tag: 'ä → 🍎'}}\n", "utf-8")
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    words = [*ALEXNET, "recipes", "show", str(recipe)]
    for more in ([], ["--json"]):
        done = subprocess.run([*words, *more], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode(encoding)
        assert "\\u2192" in shown
        if more:
            assert json.loads(shown)["run"]["tag"] == "ä → 🍎"


def test_text_is_utf_8_wherever_the_program_runs(tmp_path: Path) -> None:
    """A locale of its own changes what open() takes by default."""
    environment = {**os.environ, "PYTHONWARNDEFAULTENCODING": "1"}
    flags = ["-W", "error::EncodingWarning"]
    for words in (["recipes"], ["receipt"], ["recipes", "show", "demo"]):
        command = [sys.executable, *flags, "-m", "pipelines.cli", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
