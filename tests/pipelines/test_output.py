import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.errors import DataError, ProjectError, RecipeError, TrackingError
from infra.tracking.place import TrackingPlace
from pipelines.output import (
    print_error,
    print_fields,
    print_predictions,
    print_recipe,
    print_recipes,
    print_run,
    print_step,
    run_fields,
)
from pipelines.recipe_yaml import load_recipe, shipped_recipes
from pipelines.workflow import Outcome

FILE = TrackingPlace("sqlite:////a folder/mlflow.db", "file:///a", "workspace")
SERVER = TrackingPlace("https://me:secret@mlflow.example.org/", None, "mlflow.example.org")

PREPARED = {"uri": "/w/datasets/d", "fingerprint": "f" * 64, "train": {"count": 2000}}
TRAINED = {"run_key": "k", "mlflow_run_id": "r1", "status": "FINISHED", "checkpoint": "/w/runs/c"}
CENTER = {"top1": 0.982, "top5": 1.0, "correct1": 491, "correct5": 500, "loss": 0.1}
EVALUATED = {"uri": "/w/evaluations/e", "count": 50_000, "center": CENTER, "ten_crop": CENTER}
EVALUATED |= {"nine_crop": None}
JUDGED = {"verdict": "accepted", "reasons": ["top-1 reaches it", "there is no champion"]}
REGISTERED = {
    "model_uri": "models:/alexnet/1",
    "version": "1",
    "aliases": ["challenger", "champion"],
}

REPORTED = {"report": "/w/reports/r/report.html"}


def outcomes(**changes: object) -> list[Outcome]:
    fields = {
        "prepare": PREPARED,
        "train": TRAINED,
        "evaluate": EVALUATED,
        "gate": JUDGED,
        "register": REGISTERED,
        "report": REPORTED,
    }
    return [
        Outcome(name, "ran", 1.23456, f"/w/{name}", {**of_step, **changes})
        for name, of_step in fields.items()
    ]


def test_a_runs_fields_are_all_its_steps_fields() -> None:
    fields = run_fields(outcomes())
    for of_step in (
        TRAINED,
        JUDGED,
        REGISTERED,
        REPORTED,
        {"count": 50_000, "fingerprint": "f" * 64},
    ):
        assert of_step.items() <= fields.items()


def test_the_uri_of_a_run_is_its_datasets_and_each_step_has_its_own() -> None:
    fields = run_fields(outcomes())
    assert fields["uri"] == "/w/datasets/d"
    assert [step["uri"] for step in fields["steps"]] == [
        "/w/prepare",
        "/w/train",
        "/w/evaluate",
        "/w/gate",
        "/w/register",
        "/w/report",
    ]
    assert fields["steps"][0] == {
        "name": "prepare",
        "state": "ran",
        "seconds": 1.235,
        "uri": "/w/prepare",
    }


def test_json_is_one_document_on_standard_output_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_run(outcomes(), FILE, as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(json.dumps(run_fields(outcomes())))
    assert printed.err == ""


def test_a_run_ends_with_a_summary_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(outcomes(), FILE, as_json=False)
    mlflow = Path(sys.executable).with_name("mlflow")
    assert capsys.readouterr().out.splitlines() == [
        "top-1      0.9820 centre, 0.9820 ten crops, on 50,000 validation images",
        "gate       accepted: top-1 reaches it; there is no champion",
        "model      models:/alexnet/1  (challenger, champion)",
        "report     /w/reports/r/report.html",
        "run        http://127.0.0.1:5000/#/runs/r1",
        f"look       {mlflow} ui --backend-store-uri 'sqlite:////a folder/mlflow.db'",
    ]


def test_a_summary_leaves_out_what_was_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(outcomes(ten_crop=None, aliases=[]), FILE, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "top-1      0.9820 centre, on 50,000 validation images"
    assert lines[2] == "model      models:/alexnet/1  (no alias)"


def test_a_summary_calls_nine_crops_nine(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(outcomes(ten_crop=None, nine_crop=CENTER), FILE, as_json=False)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "top-1      0.9820 centre, 0.9820 nine crops, on 50,000 validation images"


def test_a_server_is_linked_without_its_secret(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(outcomes(), SERVER, as_json=False)
    out = capsys.readouterr().out
    assert "run        https://mlflow.example.org/#/runs/r1" in out
    assert "secret" not in out
    assert "mlflow ui" not in out


def test_a_dry_run_lists_states(capsys: pytest.CaptureFixture[str]) -> None:
    looked = [
        Outcome("prepare", "holds", 0.1, "/w/d", PREPARED),
        Outcome("train", "would-run", 0, None, {}),
    ]
    print_run(looked, FILE, as_json=False, dry_run=True)
    assert capsys.readouterr().out == "prepare   holds\ntrain     would-run\n"
    print_run(looked, FILE, as_json=True)
    assert [step["state"] for step in json.loads(capsys.readouterr().out)["steps"]] == [
        "holds",
        "would-run",
    ]


def test_a_dry_run_of_what_is_all_done_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(outcomes(), FILE, as_json=False, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [outcome.name for outcome in outcomes()]


def test_one_steps_fields_are_yaml_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_step(outcomes()[2], as_json=False)
    out = capsys.readouterr().out
    assert yaml.safe_load(out) == EVALUATED
    assert out.startswith("uri: /w/evaluations/e\ncount: 50000\n")


def test_what_is_no_image_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    top = [{"label": 0, "wnid": "n1", "name": "Löwe", "probability": 1.0}]
    fields = {
        "output": None,
        "count": 1,
        "predictions": [{"path": "a.jpg", "top": top}],
        "rejected": [{"path": "b.txt", "reason": "not an image"}],
    }
    print_predictions(fields, as_json=False)
    assert capsys.readouterr() == ("a.jpg  Löwe 100.0 %\n", "no images:\nb.txt  not an image\n")
    print_predictions(fields, as_json=True)
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == (fields, "")


def test_letters_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"name": "Löwe 獅子"}
    for as_json in (True, False):
        print_fields(fields, as_json=as_json)
        assert "Löwe 獅子" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (RecipeError("bad key", remedy="mend it"), ("RecipeError", 2)),
        (DataError("bad key", remedy="mend it"), ("DataError", 3)),
        (TrackingError("bad key", remedy="mend it"), ("TrackingError", 4)),
    ],
)
def test_an_error_is_one_message_and_a_remedy(
    error: ProjectError, described: tuple[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    print_error(error, as_json=False)
    assert capsys.readouterr() == ("", "error: bad key\n  what to do: mend it\n")
    print_error(error, as_json=True)
    kind, code = described
    assert json.loads(capsys.readouterr().out) == {
        "error": {"type": kind, "message": "bad key", "remedy": "mend it", "exit_code": code}
    }


def test_an_error_keeps_its_lines_and_gives_no_command_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_error(DataError("one\n\x1b]0;two\x07", remedy="rename \udcff"), as_json=False)
    told = "error: one\n\\x1b]0;two\\x07\n  what to do: rename \\udcff\n"
    assert capsys.readouterr().err == told


def test_recipes_are_listed_with_the_first_sentence_of_their_headers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_recipes(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shipped_recipes()
    assert all(line.endswith(".") and len(line) < 150 for line in lines)
    print_recipes(as_json=True)
    listed = json.loads(capsys.readouterr().out)["recipes"]
    assert [entry["name"] for entry in listed] == shipped_recipes()
    for entry, line in zip(listed, lines, strict=True):
        assert line.endswith(entry["summary"])


def test_a_recipe_is_shown_with_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("demo")
    print_recipe(recipe, as_json=False)
    out = capsys.readouterr().out
    assert yaml.safe_load(out) == recipe.model_dump(mode="json")
    assert "max_failures: 8" in out


def test_a_standard_error_that_is_full_does_not_hide_the_exit_code() -> None:
    command = [sys.executable, "-m", "pipelines.cli", "recipes", "show", "nothing"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stderr=full, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 2
