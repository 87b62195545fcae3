import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from alexnet.inference.answer_many import (
    _from_plan,
    _job_of,
    _runner_of,
    _to_plan,
    answer_many,
    plan_pool,
)
from alexnet.inference.classify import BatchClassifier, ClassifySpec
from alexnet.inference.inputs import find_parts
from alexnet.trained import Located
from infra.errors import DataError, ServiceError
from infra.ray_runtime import Node, Resources
from preprocessing.dataset.stored import encode_jpeg


@pytest.fixture
def names(tiny_training: Any, tmp_path: Path) -> list[str]:
    """A file, a folder with what is no image, one that is not there any more, and a dataset."""
    jpeg = encode_jpeg(np.full((30, 40, 3), 99, np.uint8), 90)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4r.jpg")).write_bytes(jpeg)
    (tmp_path / "note.txt").write_bytes(b"hello")
    return [str(tmp_path), tiny_training.store.uri]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
# Ray's own, when it makes its context.
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context")
def test_ray_gives_the_answers_of_one_process_in_order(
    tiny_training: Any, names: list[str]
) -> None:
    trained, parts = tiny_training.trained, find_parts(names)
    alone = list(BatchClassifier(trained, ClassifySpec(), num_threads=1).run(parts))
    assert pa.concat_tables(answer_many(trained, parts, ClassifySpec())).equals(
        pa.concat_tables(alone)
    )
    # What a task raises arrives as it was.
    lost = trained.weights.item.model_copy(update={"path": "nothing.safetensors"})
    damaged = replace(trained, weights=Located(trained.weights.store, lost))
    with pytest.raises(DataError, match="is missing"):
        list(answer_many(damaged, parts, ClassifySpec("ten_crop")))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context")
def test_what_kills_every_process_that_reads_it_is_not_read_for_ever(
    tiny_training: Any, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.ray_data.RETRIES", 1)

    class Deadly:
        num_views = 1

        def runner(self, trained: Any, *, num_threads: int) -> Any:
            os._exit(11)

    deadly: Any = Deadly()  # local: it travels by value
    with pytest.raises(ServiceError, match="prediction's processes kept dying"):
        list(answer_many(tiny_training.trained, find_parts(names), deadly))


_ON_PRETENDED_GPUS = """
import json, os, pickle, sys, time
import pyarrow as pa, ray
from alexnet.inference.inputs import find_parts
from alexnet.inference.answer_many import answer_many
from infra import ray_data
from infra.errors import ServiceError

class WhoAnswers:
    num_views = 1
    def runner(self, trained, *, num_threads):
        return InferenceRunner()

class InferenceRunner:
    def run(self, parts):
        open(os.environ["HERE"] + f"/{os.getpid()}", "w").close()
        while len(os.listdir(os.environ["HERE"])) < 2:  # the other may still start
            time.sleep(0.05)
        time.sleep(0.3)  # all end at once, and the next may go anywhere
        yield pa.table({"process": [os.getpid()], "gpu": [os.environ["CUDA_VISIBLE_DEVICES"]]})

class Deadly(WhoAnswers):
    def runner(self, trained, *, num_threads):
        os._exit(11)

ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
trained, uri = pickle.load(sys.stdin.buffer)
parts = find_parts([uri] * 20)
rows = [row for table in answer_many(trained, parts, WhoAnswers()) for row in table.to_pylist()]
ray_data.RETRIES = 1
try:
    list(answer_many(trained, parts[:1], Deadly()))
except ServiceError as error:
    print(json.dumps({"rows": rows, "problem": error.problem}))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_keeps_its_gpu(tiny_training: Any, tmp_path: Path) -> None:
    """CUDA looks once which one is visible: of two processes on one GPU, another would idle."""
    # Not the mode of a Ray that runs in this process: its own half would ask for a token that the
    # other half lacks, and each process would be given up before it runs.
    ended = subprocess.run(
        [sys.executable, "-c", _ON_PRETENDED_GPUS],
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "HERE": str(tmp_path)},
        input=pickle.dumps((tiny_training.trained, tiny_training.store.uri)),
        capture_output=True,
        check=False,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    # Ray writes of dead processes there too.
    told = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith(b"{")))
    pairs = {(row["process"], row["gpu"]) for row in told["rows"]}
    assert len(pairs) == 2
    assert {gpu for _, gpu in pairs} == {"0", "1"}
    assert told["problem"].startswith("prediction's processes kept dying")


def test_a_process_keeps_its_runner_for_the_same_model_alone(tiny_training: Any) -> None:
    """Two packages may have the same weights and see images in another way."""
    trained = tiny_training.trained
    kept = _runner_of(_job_of(trained, ClassifySpec(), num_threads=1))
    assert _runner_of(_job_of(replace(trained), ClassifySpec(), num_threads=1)) is kept
    augment = trained.augment.model_copy(update={"scale": 2.0})
    other = replace(trained, augment=augment)
    assert _runner_of(_job_of(other, ClassifySpec(), num_threads=1)) is not kept


def test_a_plan_keeps_every_part(names: list[str]) -> None:
    parts = find_parts([*names, str(Path(names[0]) / "note.txt")])
    back = _from_plan(_to_plan(parts))
    assert [(p.store.uri, p.key, p.path, p.rows, p.column) for p in back] == [
        (p.store.uri, p.key, p.path, p.rows, p.column) for p in parts
    ]


@pytest.mark.parametrize(
    ("cpus", "gpus", "images", "expected"),
    [
        # workers, CPUs and GPUs each books, threads, images a task
        (2, 0, 5_000, (2, 1.0, 0.0, 1, 512)),
        (2, 0, 1_024, (2, 1.0, 0.0, 1, 128)),
        (64, 0, 100, (2, 1.0, 0.0, 1, 64)),
        (16, 1, 50_000, (1, 1.0, 1.0, 16, 512)),
        (32, 4, 50_000, (4, 1.0, 1.0, 8, 512)),
        (0.5, 0, 5_000, (1, 0.5, 0.0, 1, 512)),
        (2, 0, 0, (1, 1.0, 0.0, 1, 64)),
    ],
)
def test_a_task_a_gpu_or_a_cpu(
    cpus: float, gpus: float, images: int, expected: tuple[Any, ...]
) -> None:
    pool = plan_pool(Resources((Node(cpus, gpus),), 1e9), images)
    assert (pool.workers, pool.cpus, pool.gpus, pool.threads, pool.task_rows) == expected
