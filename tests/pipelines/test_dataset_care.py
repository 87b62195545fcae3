"""`alexnet prepare` with --verify, --repair, --estimate, --clean, as the command line runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.canonical import canonical_json
from infra.claims import Claim
from infra.errors import ObjectCorrupt, ProjectError, RecipeError
from infra.process_identity import this_process
from infra.store import FolderStore
from pipelines.cli import app
from pipelines.dataset_care import repair_command
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.errors import ManifestError
from preprocessing.settings import PrepareSettings

SMALL = [
    "dataset.drawn.num_classes=2",
    "dataset.drawn.train_per_class=8",
    "dataset.drawn.val_per_class=3",
    "prepare.rows_per_group=2",
    "prepare.rows_per_shard=4",
    "prepare.stored_px=16",
    "train.augment.crop_px=12",
]


def prepare(*words: str) -> Result:
    return CliRunner().invoke(app, ["prepare", *words])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--verify", "x", "--repair"], "--verify and --repair do not go together"),
        (["--verify", "x", "--clean"], "--verify and --clean"),
        (["--repair", "--estimate"], "--repair and --estimate"),
        (["--clean", "--estimate", "--repair"], "--repair and --estimate and --clean"),
        (["--deep"], "--deep is for a check"),
        (["--deep", "--clean"], "--deep is for a check"),
        (["demo", "--verify", "x"], "--verify takes no RECIPE"),
        (["--verify", "x", "--set", "prepare.seed=1"], "--verify takes no --set"),
        (["--clean", "--from-folder", "x"], "--clean takes no --set and --from-folder"),
        (["demo", "--clean"], "--clean takes no RECIPE"),
    ],
)
def test_what_makes_no_sense_together_is_refused(words: list[str], problem: str) -> None:
    error = prepare(*words).exception
    assert isinstance(error, RecipeError)
    assert problem in error.problem


def test_a_place_that_is_no_dataset_is_one_clear_error(tmp_path: Path) -> None:
    for uri in (tmp_path, tmp_path / "nowhere"):
        error = prepare("--verify", str(uri)).exception
        assert isinstance(error, ManifestError)
        assert "is no dataset" in error.problem
    (tmp_path / "manifest.json").write_text("{}")
    assert isinstance(prepare("--verify", str(tmp_path)).exception, ManifestError)


def test_a_place_that_is_no_workspace_is_not_cleaned(tmp_path: Path) -> None:
    stray = tmp_path / "datasets" / "x-0123456789abcdef" / "classes.json"
    stray.parent.mkdir(parents=True)
    stray.write_text("{}")
    error = prepare("--clean", "--workspace", str(tmp_path)).exception
    assert isinstance(error, RecipeError)
    assert stray.exists()
    (tmp_path / "workspace.json").write_text("{}")
    kept = prepare("--clean", "--workspace", str(tmp_path)).stdout
    assert "datasets/x-0123456789abcdef  left alone: was written" in kept
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        pass
    dead = this_process().model_copy(update={"pid": ended.pid, "started": "1"})
    claim = Claim(number=1, owner="killed", process=dead)
    lease = FolderStore(tmp_path / "datasets" / "x-0123456789abcdef")
    lease.write("lease/0001.json", canonical_json(claim.model_dump()))
    result = prepare("--clean", "--workspace", str(tmp_path))
    assert result.stdout.splitlines() == [
        "datasets/x-0123456789abcdef/classes.json  2 bytes",
        "1 files removed, 2 bytes",
    ]
    assert not stray.exists()
    document = json.loads(prepare("--clean", "--workspace", str(tmp_path), "--json").stdout)
    assert (document["num_removed"], document["removed"], document["kept"]) == (0, [], [])


def test_an_estimate_is_printed_and_no_dataset_is_made(tmp_path: Path) -> None:
    words = ["demo", "--estimate", "--workspace", str(tmp_path), "--json"]
    words += [word for setting in SMALL for word in ("--set", setting)]
    document = json.loads(prepare(*words).stdout)
    assert (document["train"]["num_images"], document["train"]["num_shards"]) == (16, 4)
    assert document["val"]["num_images"] == 6
    assert not (tmp_path / "datasets").exists()


def test_the_command_that_repairs_has_all_that_the_dataset_knows(tiny_training: Any) -> None:
    manifest: Manifest = tiny_training.manifest
    assert manifest.options is None
    command = "alexnet prepare RECIPE --repair --set dataset.name=tiny"
    rejects = "--set prepare.max_rejects=2"
    assert repair_command(manifest) == f"{command} {rejects}"
    options = PrepareSettings(quality=81, chroma="444", val_fraction=0.25).deciding()
    told = repair_command(manifest.model_copy(update={"options": options, "num_rejects": 0}))
    assert told.startswith(f"{command} --set prepare.stored_px=256 ")
    for setting in ("quality=81", "chroma=444", "val_fraction=0.25", "seed=0"):
        assert f" --set prepare.{setting}" in told
    assert len(told.split()) == 2 * len(options) + 6


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_dataset_is_verified_damaged_and_repaired(tmp_path: Path) -> None:
    options = ["demo", "--workspace", str(tmp_path), "--json"]
    options += [word for setting in SMALL for word in ("--set", setting)]
    made = json.loads(prepare(*options, "--repair").stdout)  # there is none: it is made
    assert made["repaired"] == []
    store = FolderStore(Path(made["uri"]))
    shards = open_dataset(store).train.shards

    whole = prepare("--verify", made["uri"], "--deep")
    assert (whole.exit_code, whole.stdout.splitlines()[-1]) == (0, "result   whole")
    flipped = bytearray(store.read(shards[0].path))
    flipped[100] ^= 4
    store.write(shards[0].path, bytes(flipped))
    store.delete(shards[2].path)
    store.write("stats.safetensors", b"short")

    damaged = prepare("--verify", made["uri"], "--json")
    assert damaged.exit_code == 3
    document = json.loads(damaged.stdout)
    paths = ["stats.safetensors", shards[0].path, shards[2].path]
    assert [problem["path"] for problem in document["problems"]] == paths
    assert (document["whole"], document["num_shards"]) == (False, 6)
    assert "--repair" in document["error"]["remedy"]
    table = prepare("--verify", made["uri"])
    assert (table.exit_code, f"{shards[2].path}  is missing" in table.stdout) == (3, True)
    assert "--repair" in table.stderr

    refused = prepare(*options).exception
    assert isinstance(refused, ObjectCorrupt)
    assert "--repair" in refused.remedy

    # The recipe says where the images are, the dataset all else.
    words = document["error"]["remedy"].split("`")[1].split()
    assert words[:4] == ["alexnet", "prepare", "RECIPE", "--repair"]
    source = [word for setting in SMALL[:3] for word in ("--set", setting)]
    crop = ["--set", SMALL[-1]]
    mended = prepare("demo", "--workspace", str(tmp_path), "--json", *source, *crop, *words[3:])
    assert mended.exit_code == 0
    assert json.loads(mended.stdout) == {**made, "repaired": paths}
    assert prepare("--verify", made["uri"]).exit_code == 0
    assert json.loads(prepare(*options).stdout) == {k: made[k] for k in made if k != "repaired"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_manifest_that_contradicts_its_shards_is_not_repaired(tmp_path: Path) -> None:
    options = ["demo", "--workspace", str(tmp_path), "--json"]
    options += [word for setting in SMALL for word in ("--set", setting)]
    made = json.loads(prepare(*options).stdout)
    path = Path(made["uri"], "manifest.json")
    document = json.loads(path.read_text())
    document["num_rejects"] = 1
    path.write_text(json.dumps(document))
    assert prepare("--verify", made["uri"]).exit_code == 3
    error = prepare(*options, "--repair").exception
    assert isinstance(error, ProjectError)
    assert "the manifest contradicts" in error.problem
    path.unlink()
    assert json.loads(prepare(*options).stdout) == made
