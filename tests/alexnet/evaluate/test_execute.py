from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from alexnet.evaluate import execute
from alexnet.evaluate.blocks import BlockReader, plan_blocks
from alexnet.evaluate.evaluate import BlockEvaluator
from alexnet.evaluate.evaluation import (
    Evaluation,
    open_evaluation,
    read_evaluation,
    read_predictions,
    validation_digest,
)
from alexnet.evaluate.execute import _share, collect, evaluate
from alexnet.evaluate.rows import join_results
from alexnet.evaluate.settings import EvaluateSettings
from alexnet.inference.predictor import Predictor
from infra.commit import read_object
from infra.errors import DataError, ObjectCorrupt, RecipeError, ServiceError
from infra.parquet import read_parquet
from infra.progress import no_progress
from infra.store import FolderStore, MemoryStore
from preprocessing.dataset.labels import make_classes
from preprocessing.errors import ShardCorrupt

pytestmark = pytest.mark.ray


def _evaluate(training: Any, place: Path, **settings: Any) -> Evaluation:
    return evaluate(
        trained=training.trained,
        dataset=training.store,
        manifest=training.manifest,
        settings=EvaluateSettings(**settings),
        place=FolderStore(place),
        key="k",
    )


@pytest.fixture(scope="module")
def evaluated(
    ray_local: Any, tiny_training: Any, tmp_path_factory: pytest.TempPathFactory
) -> FolderStore:
    place = tmp_path_factory.mktemp("evaluation")
    _evaluate(tiny_training, place, parallelism=1)
    return FolderStore(place)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_nothing_depends_on_the_number_of_workers(
    evaluated: FolderStore, tiny_training: Any, tmp_path: Path, workers: int
) -> None:
    """Three blocks: with eight workers most have none."""
    assert _evaluate(tiny_training, tmp_path, parallelism=workers) == open_evaluation(evaluated)


@pytest.mark.parametrize(
    ("slots", "workers", "share"),
    [(8, 12, 0.5), (8, 9, 0.5), (4, 6, 0.5), (2, 3, 0.5), (2, 1, 1.0), (2, 5, 0.33), (0, 4, 0.0)],
)
def test_the_shares_of_all_workers_fit_on_whole_slots(
    slots: int, workers: int, share: float
) -> None:
    assert _share(slots, workers) == share
    if slots:
        assert slots * int(1 / share) >= workers


def test_predictions_tables_and_receipt_agree(evaluated: FolderStore, tiny_training: Any) -> None:
    evaluation = open_evaluation(evaluated)
    rows = read_predictions(evaluated, evaluation)
    per_class = read_parquet(read_object(evaluated, evaluation.per_class))
    confusion = read_parquet(read_object(evaluated, evaluation.confusion))
    assert evaluation.count == rows.num_rows == 150
    assert evaluation.validation_digest == validation_digest(tiny_training.manifest)
    assert rows["sample_id"].to_pylist() == [i for i in range(152) if i not in (3, 40)]
    labels = rows["label"].to_numpy()
    for view, accuracy in (("center", evaluation.center), ("ten_crop", evaluation.ten_crop)):
        assert accuracy is not None
        right = rows[f"{view}_pred"].to_numpy() == labels
        assert right.sum() == accuracy.correct1 == sum(per_class[f"{view}_correct1"].to_pylist())
        assert (right == (rows[f"{view}_rank"].to_numpy() == 0)).all()
        assert accuracy.top1 == accuracy.correct1 / 150
        assert (rows[f"{view}_rank"].to_numpy() < 5).sum() == accuracy.correct5
        top5 = np.array(rows[f"{view}_top5"].to_pylist())
        assert (top5[:, 0] == rows[f"{view}_pred"].to_numpy()).all()
        assert (top5 == labels[:, None]).any(axis=1).sum() == accuracy.correct5
        probabilities = np.array(rows[f"{view}_probabilities"].to_pylist(), np.float64)
        assert probabilities.shape == (150, 7)
        own = probabilities[np.arange(150), labels]
        assert -np.log(own).mean() == pytest.approx(accuracy.loss, rel=1e-3)
        diagonal = confusion.filter(
            np.equal(confusion["true"].to_numpy(), confusion["predicted"].to_numpy())
        )
        assert sum(diagonal[f"{view}_count"].to_pylist()) == accuracy.correct1
        assert sum(confusion[f"{view}_count"].to_pylist()) == 150
    assert per_class["name"].to_pylist() == [f"class {i}" for i in range(7)]
    assert per_class["count"].to_pylist() == np.bincount(labels, minlength=7).tolist()


def test_an_evaluation_that_left_an_image_out_is_not_committed(
    tiny_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "_run", lambda *_: SimpleNamespace(labels=[0] * 149))
    with pytest.raises(DataError, match="149 images were evaluated, the dataset has 150"):
        _evaluate(tiny_training, tmp_path)
    assert list(FolderStore(tmp_path).list()) == []


def test_what_is_committed_by_then_is_not_written_again(
    evaluated: FolderStore, tiny_training: Any
) -> None:
    before = {info.key: info.version for info in evaluated.list()}
    held = _evaluate(tiny_training, Path(evaluated.uri), parallelism=1)
    assert held == open_evaluation(evaluated)
    assert {info.key: info.version for info in evaluated.list()} == before


@pytest.mark.usefixtures("one_thread")
def test_workers_agree_with_one_plain_process(evaluated: FolderStore, tiny_training: Any) -> None:
    manifest = tiny_training.manifest
    reader = BlockReader(tiny_training.store, manifest)
    try:
        evaluator = BlockEvaluator(
            reader,
            tiny_training.trained.load_model(),
            tiny_training.trained.load_augment(),
            crop_px=40,
            views=("center",),
        )
        result = join_results([evaluator.evaluate(block) for block in plan_blocks(manifest.val)])
    finally:
        reader.close()
    rows = read_predictions(evaluated, open_evaluation(evaluated))
    np.testing.assert_array_equal(rows["center_pred"].to_numpy(), result.views["center"].predicted)


def test_without_ten_crops_there_is_only_the_centre(
    ray_local: Any, tiny_training: Any, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    evaluation = evaluate(
        trained=tiny_training.trained,
        dataset=tiny_training.store,
        manifest=tiny_training.manifest,
        settings=EvaluateSettings(ten_crop=False),
        place=FolderStore(tmp_path),
        key="k",
        progress=lambda images, total: done.append((images, total)),
    )
    assert evaluation.ten_crop is None
    assert b"nine_crop" not in evaluation.to_bytes()  # keys hold its digest
    assert done[-1] == (150, 150)
    names = read_predictions(FolderStore(tmp_path), evaluation).column_names
    of_view = ["center_pred", "center_top5", "center_rank", "center_probabilities"]
    assert names == ["sample_id", "label", *of_view]


def test_nine_crops_are_counted_as_nine(ray_local: Any, tiny_training: Any, tmp_path: Path) -> None:
    evaluation = evaluate(
        trained=tiny_training.trained,
        dataset=tiny_training.store,
        manifest=tiny_training.manifest,
        settings=EvaluateSettings(ten_crop=False, nine_crop=True),
        place=FolderStore(tmp_path),
        key="k",
    )
    assert list(evaluation.views) == ["center", "nine_crop"]
    assert open_evaluation(FolderStore(tmp_path)) == evaluation
    rows = read_predictions(FolderStore(tmp_path), evaluation)
    assert "ten_crop_rank" not in rows.column_names
    right = int((rows["nine_crop_rank"].to_numpy() == 0).sum())
    assert evaluation.views["nine_crop"].correct1 == right
    per_class = read_parquet(read_object(FolderStore(tmp_path), evaluation.per_class))
    assert sum(per_class["nine_crop_correct1"].to_pylist()) == right


@pytest.mark.parametrize("stored_px", [32, 64])
def test_images_stored_at_another_size_get_the_answers_of_prediction(
    ray_local: Any, tiny_training: Any, write_tiny_dataset: Any, tmp_path: Path, stored_px: int
) -> None:
    """The network's crops are of 40 px, cut from squares of 48."""
    dataset = FolderStore(tmp_path / "dataset")
    manifest = write_tiny_dataset(dataset, stored_px)
    place = FolderStore(tmp_path / "evaluation")
    evaluation = evaluate(
        trained=tiny_training.trained,
        dataset=dataset,
        manifest=manifest,
        settings=EvaluateSettings(ten_crop=False),
        place=place,
        key="k",
    )
    assert evaluation.count == 150
    reader = BlockReader(dataset, manifest)
    blocks = [reader.read(block) for block in plan_blocks(manifest.val)]
    reader.close()
    files = [jpeg.tobytes() for block in blocks for jpeg in block.encoded]
    answers = Predictor(tiny_training.trained).predict(files)
    rows = read_predictions(place, evaluation)
    assert rows["center_pred"].to_pylist() == answers["label"].tolist()
    best = [max(each) for each in rows["center_probabilities"].to_pylist()]
    np.testing.assert_allclose(best, answers["probability"], rtol=1e-3)  # kept as float16


def test_a_damaged_shard_is_named_through_ray(
    ray_local: Any, tiny_training: Any, tmp_path: Path
) -> None:
    dataset = FolderStore(tmp_path / "dataset")
    for shard in tiny_training.manifest.val.shards:
        body = bytearray(tiny_training.store.read(shard.path))
        body[5000] ^= 0xFF
        dataset.write(shard.path, bytes(body))
    with pytest.raises(ShardCorrupt, match=r"val/part-\d\.parquet"):
        evaluate(
            trained=tiny_training.trained,
            dataset=dataset,
            manifest=tiny_training.manifest,
            settings=EvaluateSettings(ten_crop=False),
            place=FolderStore(tmp_path / "evaluation"),
            key="k",
        )
    assert read_evaluation(FolderStore(tmp_path / "evaluation")) is None


def test_damaged_weights_are_named_through_ray(
    ray_local: Any, tiny_training: Any, tmp_path: Path
) -> None:
    weights = tiny_training.trained.weights
    copy = FolderStore(tmp_path)
    copy.write(weights.item.path, weights.store.read(weights.item.path)[:-1] + b"\0\0")
    trained = _with(tiny_training.trained, weights=_with(weights, store=copy))
    with pytest.raises(ObjectCorrupt, match=r"model\.safetensors"):
        evaluate(
            trained=trained,
            dataset=tiny_training.store,
            manifest=tiny_training.manifest,
            settings=EvaluateSettings(ten_crop=False),
            place=FolderStore(tmp_path / "evaluation"),
            key="k",
        )


def test_a_network_with_other_classes_is_refused(tiny_training: Any, tmp_path: Path) -> None:
    other = make_classes({"a": "a", "b": "b"}).to_bytes()
    classes = _stored(tmp_path, "classes.json", other)
    manifest = tiny_training.manifest.model_copy(update={"classes": classes})
    with pytest.raises(RecipeError, match="other classes"):
        evaluate(
            trained=tiny_training.trained,
            dataset=tiny_training.store,
            manifest=manifest,
            settings=EvaluateSettings(),
            place=MemoryStore(),
            key="k",
        )


def test_an_interrupt_ends_it_and_commits_nothing(
    ray_local: Any, tiny_training: Any, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            trained=tiny_training.trained,
            dataset=tiny_training.store,
            manifest=tiny_training.manifest,
            settings=EvaluateSettings(ten_crop=False),
            place=FolderStore(tmp_path),
            key="k",
            progress=interrupt,
        )
    assert list(FolderStore(tmp_path).list()) == []


class Echo:
    """A worker that gives back what it is given."""

    def evaluate(self, what: int) -> int:
        return what


def asked_of(workers: list[Any]) -> tuple[list[Any], list[Any], list[int]]:
    """Two blocks of five images a worker."""
    owners = [worker for worker in workers for _ in range(2)]
    asked = [owner.evaluate.remote(number) for number, owner in enumerate(owners)]
    return asked, owners, [5] * len(owners)


def test_a_worker_that_waits_for_a_slot_gets_that_of_one_that_is_through(ray_local: Any) -> None:
    """As one does whose node was lost: the others hold all slots."""
    count = 2 * int(ray_local.cpus)
    workers = [ray.remote(Echo).options(num_cpus=1).remote() for _ in range(count)]
    told: list[tuple[int, int]] = []
    found = collect(*asked_of(workers), lambda *numbers: told.append(numbers), silence_s=60)
    assert found == list(range(2 * count))
    assert told[-1] == (10 * count, 10 * count)


def test_when_no_worker_can_start_it_ends(ray_local: Any) -> None:
    worker = ray.remote(Echo).options(num_gpus=64).remote()
    try:
        with pytest.raises(ServiceError, match="no evaluation worker has finished a block for 2 s"):
            collect(*asked_of([worker]), no_progress, silence_s=2)
    finally:
        ray.kill(worker)


def test_no_evaluation_is_an_error_only_when_asked_to_open_one() -> None:
    assert read_evaluation(MemoryStore()) is None
    with pytest.raises(DataError, match=r"evaluation\.json"):
        open_evaluation(MemoryStore())


def _with(value: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(value, **changes)


def _stored(folder: Path, path: str, body: bytes) -> Any:
    from infra.commit import write_object

    return write_object(FolderStore(folder), path, body)
