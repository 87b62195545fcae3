from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.attempts import claim_attempt, read_attempts
from alexnet.train.checkpoint import (
    MADE_AGAIN,
    CheckpointReceipt,
    TrainState,
    find_sound_checkpoint,
    read_tensors,
    write_checkpoint,
)
from alexnet.train.training_receipt import commit_training, read_training
from alexnet.trained import Located
from infra.errors import ObjectCorrupt
from infra.store import FolderStore, MemoryStore, ObjectStore

RUN_KEY = "0" * 64


def write_last(run: ObjectStore, attempt: int = 1, step: int = 30) -> CheckpointReceipt:
    state = TrainState(
        step=step,
        epoch=3,
        attempt=attempt,
        run_key=RUN_KEY,
        dataset_fingerprint="1" * 64,
        seed=0,
        global_batch=8,
        num_classes=5,
        network=NetworkSettings(),
        augment=AugmentSettings(),
    )
    tensors = {"fc8.bias": torch.full((5,), float(attempt))}
    return write_checkpoint(run, state, tensors, tensors)


def test_a_training_is_finished_when_its_receipt_is_there(tmp_path: Path) -> None:
    run = FolderStore(tmp_path)
    last = write_last(run)
    assert read_training(run) is None
    receipt = commit_training(run, RUN_KEY, last)
    assert receipt == read_training(run)
    assert receipt.step == 30
    assert receipt.checkpoint == "checkpoints/step-00000030-a0001"
    assert receipt.model_sha256 == last.model.sha256


def test_a_finished_training_holds_in_a_copied_workspace() -> None:
    run, copy = MemoryStore(), MemoryStore()
    receipt = commit_training(run, RUN_KEY, write_last(run))
    for info in run.list():
        copy.write(f"elsewhere/{info.key}", run.read(info.key))
    assert read_training(copy.child("elsewhere")) == receipt


def test_the_first_to_commit_is_believed() -> None:
    run = MemoryStore()
    first = commit_training(run, RUN_KEY, write_last(run))
    assert commit_training(run, RUN_KEY, write_last(run, attempt=2)) == first
    assert read_training(run) == first


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_finished_training_that_lost_an_object_is_corrupt(name: str) -> None:
    run = MemoryStore()
    receipt = commit_training(run, RUN_KEY, write_last(run))
    run.delete(f"{receipt.checkpoint}/{name}")
    with pytest.raises(ObjectCorrupt, match=f"{name} is missing"):
        read_training(run)
    run.write(f"{receipt.checkpoint}/{name}", b"short")
    with pytest.raises(ObjectCorrupt, match="has 5 bytes"):
        read_training(run)


Damage = Callable[[ObjectStore], None]


def _cut(checkpoint: ObjectStore) -> None:
    checkpoint.write("model.safetensors", b"short")


def _delete_all(checkpoint: ObjectStore) -> None:
    for info in checkpoint.list():
        checkpoint.delete(info.key)


@pytest.mark.parametrize("damage", [_cut, lambda store: store.delete("receipt.json"), _delete_all])
def test_a_finished_training_without_its_end_goes_on_from_the_checkpoint_before(
    damage: Damage,
) -> None:
    run = MemoryStore()
    claim_attempt(run, start_step=0, world_size=1)
    before = write_last(run, step=20)
    receipt = commit_training(run, RUN_KEY, write_last(run))
    damage(run.child(receipt.checkpoint))
    with pytest.raises(ObjectCorrupt) as caught:
        read_training(run)
    assert "delete finished.json in its run's folder" in caught.value.remedy

    run.delete("finished.json")
    assert read_training(run) is None
    assert find_sound_checkpoint(run, read_attempts(run)) == before
    claim_attempt(run, start_step=20, world_size=1)
    again = commit_training(run, RUN_KEY, write_last(run, attempt=2))
    assert read_training(run) == again
    assert again.checkpoint == "checkpoints/step-00000030-a0002"


def test_weights_with_other_bytes_are_told_with_the_same_remedy() -> None:
    run = MemoryStore()
    last = write_last(run)
    store = run.child(last.folder)
    store.write(last.model.path, b"x" * last.model.size_bytes)
    for read in (
        lambda: read_tensors(store, last.model),
        Located(store, last.evaluated_weights, MADE_AGAIN).read,
    ):
        with pytest.raises(ObjectCorrupt) as caught:
            read()
        assert caught.value.remedy == MADE_AGAIN


def test_a_receipt_that_was_cut_is_named() -> None:
    run = MemoryStore()
    run.write("finished.json", b"")
    with pytest.raises(ObjectCorrupt, match=r"finished\.json"):
        read_training(run)
