"""What `alexnet prepare` says of a build, and of one that is refused."""

from pathlib import Path

import pytest
from jpeg_archives import NO_IMAGE, make_jpeg
from typer.testing import CliRunner

from pipelines.cli import app
from preprocessing.errors import TooManyRejects

SMALL = ["prepare.rows_per_group=2", "prepare.rows_per_shard=4", "prepare.stored_px=16"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_refused_build_shows_all_that_it_could_not_use(tmp_path: Path) -> None:
    for i in range(16):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NO_IMAGE if i < 12 else make_jpeg(i))
    words = ["demo", "--from-folder", str(tmp_path / "images"), "--workspace", str(tmp_path / "w")]
    words += [w for one in [*SMALL, "train.augment.crop_px=12"] for w in ("--set", one)]
    refused = CliRunner().invoke(app, ["prepare", *words])
    assert isinstance(refused.exception, TooManyRejects)
    assert "_build/rejects.parquet" in refused.exception.problem
    lines = refused.stderr.splitlines()
    (at,) = (i for i, line in enumerate(lines) if "prepare: nothing is committed" in line)
    assert {line.split()[2] for line in lines[at + 1 : at + 13]} == {
        f"{'ab'[i % 2]}/{i}.jpg" for i in range(12)
    }
    made = CliRunner().invoke(app, ["prepare", *words, "--set", "prepare.max_rejects=12"])
    assert made.exit_code == 0
    assert "4 images in" in made.stderr
