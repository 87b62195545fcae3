"""Bad input: one clear message, the right exit code, no traceback, nothing half-written."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from end_to_end_tools import TIMEOUT_S, Cli, Reference, Result

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(200)]


@dataclass(frozen=True)
class Waiting:
    """A command that will end by itself: its result, and how long it took."""

    cli: Cli
    ended: "Future[tuple[Result, float]]"


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """A run whose MLflow is not there; it waits for it beside the other tests."""
    cli = Cli(tmp_path_factory.mktemp("unreachable") / "workspace")
    started = time.monotonic()
    process = cli.start("run", "demo", "--tracking-uri", "http://127.0.0.1:9")

    def collect() -> tuple[Result, float]:
        out, err = process.communicate()
        return Result(process.returncode, out, err), time.monotonic() - started

    with ThreadPoolExecutor(1) as pool:
        yield Waiting(cli, pool.submit(collect))
        process.kill()  # where nobody asked how it ended


@pytest.fixture
def cli(cli: Cli, mlflow_template: Path) -> Cli:
    """The command on a workspace with MLflow's empty tables, which take two seconds to make."""
    cli.workspace.mkdir()
    shutil.copy(mlflow_template, cli.workspace / "mlflow.db")
    return cli


def check(result: Result, code: int, *words: str) -> None:
    assert "Traceback" not in result.err, result.err
    assert result.code == code, result.err
    error = result.document["error"]
    assert error["exit_code"] == code
    assert error["remedy"]
    for word in words:
        assert word in error["message"] + error["remedy"], error


@pytest.mark.parametrize(
    ("words", "settings", "expected"),
    [
        (["run", "no-such-recipe"], [], ["no-such-recipe"]),
        (["run", "dem"], [], ["did you mean 'demo'"]),
        (["run", "demo"], ["train.epoch=3"], ["train.epoch", "train.epochs"]),
        (["run", "demo"], ["train.epochs=many"], ["train.epochs", "'many'"]),
        (["run", "demo"], ["train.epochs=0"], ["train.epochs"]),
        (["run", "demo"], ["train.epochs"], ["key.path=value"]),
        (["run", "demo"], ["train.augment.crop_px=500"], ["train.augment.crop_px", "48"]),
        (["run", "demo"], ["train.global_batch=2", "scaling.workers=4"], ["train.global_batch"]),
        (["run", "demo"], ["model.name=alexnet-2021"], ["alexnet-2021", "alexnet-2012"]),
        (["run", "demo"], ["scaling.workers=32", "train.global_batch=64"], ["32 workers", "CPUs"]),
    ],
)
def test_a_wrong_recipe_ends_with_2(
    cli: Cli, words: list[str], settings: list[str], expected: list[str]
) -> None:
    check(cli.run(*words, settings=settings), 2, *expected)
    assert not cli.has("datasets/*/manifest.json")


def test_a_phase_past_the_last_epoch_ends_with_2(tmp_path: Path) -> None:
    cli = Cli(tmp_path, settings=())
    check(cli.run("run", "alexnet-2012", settings=["train.epochs=5"]), 2, "train.schedule.phases")


def truncate(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("ILSVRC2012_img_train.tar", Path.unlink, ["ILSVRC2012_img_train.tar"]),
        ("ILSVRC2012_img_train.tar", truncate, ["ILSVRC2012_img_train.tar", "ends"]),
        ("ILSVRC2012_img_val.tar", truncate, ["ILSVRC2012_img_val.tar", "ends"]),
        (
            "ILSVRC2012_img_val.tar",
            lambda path: path.write_bytes(b"<html>not found</html>" * 100),
            ["ILSVRC2012_img_val.tar", "tar"],
        ),
        ("ILSVRC2012_devkit_t12.tar.gz", truncate, ["ILSVRC2012_devkit_t12.tar.gz"]),
    ],
)
def test_damaged_archives_end_with_3(
    cli: Cli,
    reference: Reference,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], object],
    expected: list[str],
) -> None:
    archives = tmp_path / "archives"
    (drawn,) = reference.cli.workspace.glob("archives/drawn-*")
    shutil.copytree(drawn, archives)
    damage(archives / name)
    check(cli.run("run", "demo", settings=[f"dataset.archives={archives}"]), 3, *expected)
    assert not cli.has("datasets/*")


def test_a_devkit_of_another_validation_archive_ends_with_3(
    cli: Cli, shared_data: Path, reference: Reference, tmp_path: Path
) -> None:
    archives = tmp_path / "archives"
    (drawn,) = reference.cli.workspace.glob("archives/drawn-*")
    shutil.copytree(drawn, archives)
    mini = shared_data / "ilsvrc-mini"
    for name in ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar"):
        (archives / name).unlink()
        shutil.copy(mini / name, archives / name)
    check(cli.run("run", "demo", settings=[f"dataset.archives={archives}"]), 3, "200", "500")


def test_another_fingerprint_ends_with_3(reference: Reference) -> None:
    wrong = "0" * 64
    result = reference.cli.run("prepare", "demo", settings=[f"dataset.fingerprint={wrong}"])
    check(result, 3, wrong, reference.document["fingerprint"])


def test_flipped_bytes_in_a_shard_end_with_3(reference: Reference, tmp_path: Path) -> None:
    cli = reference.cli.copy(tmp_path / "workspace")
    shard = sorted(cli.workspace.glob("datasets/*/train/*.parquet"))[0]
    body = bytearray(shard.read_bytes())
    for place in range(len(body) // 8, len(body) // 2, 500):
        body[place] ^= 0xFF
    shard.write_bytes(body)
    check(cli.run("train", "demo"), 3, shard.name)
    assert not cli.has("runs/*/finished.json")


def test_a_workspace_that_cannot_be_written_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check(Cli(tmp_path / "file" / "workspace").run("run", "demo"), 4, "workspace")


def test_an_unreachable_mlflow_server_ends_with_4_in_time(unreachable: Waiting) -> None:
    result, seconds = unreachable.ended.result(timeout=TIMEOUT_S)
    check(result, 4, "127.0.0.1:9")
    assert seconds < 45
    assert not unreachable.cli.has("datasets/*/manifest.json")


def test_nothing_of_ours_at_a_place_ends_with_3(tmp_path: Path) -> None:
    cli = Cli(tmp_path, settings=())
    check(cli.run("inspect", str(tmp_path)), 3, "no dataset")
