import logging
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.attempts import Attempt
from alexnet.train.checkpoint import (
    CheckpointReceipt,
    TrainState,
    checkpoint_name,
    find_sound_checkpoint,
    list_checkpoints,
    open_checkpoint,
    prune_checkpoints,
    read_tensors,
    write_checkpoint,
)
from alexnet.train.settings import CheckpointSettings
from infra.errors import DataError, ObjectCorrupt, StoreError
from infra.store import FolderStore, MemoryStore, ObjectStore

STATE = TrainState(
    step=0,
    epoch=0,
    attempt=1,
    run_key="0" * 64,
    dataset_fingerprint="1" * 64,
    seed=0,
    global_batch=8,
    num_classes=5,
    network=NetworkSettings(),
    augment=AugmentSettings(),
)
ONE_ATTEMPT = [Attempt(number=1, start_step=0, world_size=1)]


def tensors(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "conv1.weight": torch.randn(4, 3, 3, 3, generator=generator).to(
            memory_format=torch.channels_last
        ),
        "conv1.bias": torch.randn(4, generator=generator).requires_grad_(),
    }


def write(run: ObjectStore, step: int, attempt: int = 1) -> CheckpointReceipt:
    state = STATE.model_copy(update={"step": step, "attempt": attempt})
    return write_checkpoint(run, state, tensors(step), tensors(step + 1000))


def keys(run: ObjectStore) -> list[str]:
    return [info.key for info in run.list("checkpoints/")]


def folders(run: ObjectStore) -> set[str]:
    return {key.split("/")[1] for key in keys(run)}


def damage(run: ObjectStore, key: str) -> None:
    body = bytearray(run.read(key))
    body[len(body) // 2] ^= 0x01
    run.write(key, bytes(body))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    run = FolderStore(tmp_path)
    written = write(run, 12)
    assert written.name == "step-00000012-a0001"
    store = run.child(written.folder)
    receipt, state = open_checkpoint(store)
    assert receipt == written
    assert state == STATE.model_copy(update={"step": 12})
    for item, expected in ((receipt.model, tensors(12)), (receipt.optimizer, tensors(1012))):
        found = read_tensors(store, item)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


class FullStore(MemoryStore):
    """Has room for so many more objects."""

    room = 0

    def child(self, prefix: str) -> "FullStore":
        child = FullStore()
        child.room, child._prefix = self.room, f"{self._prefix}{prefix}/"
        child._objects, child._lock = self._objects, self._lock
        return child

    def _put(self, key: str, body: bytes) -> None:
        if self.room == 0:
            raise StoreError("no room", remedy="make some")
        self.room -= 1
        super()._put(key, body)


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_a_crash_before_the_receipt_leaves_no_checkpoint(room: int) -> None:
    run = FullStore()
    run.room = 4
    before = write(run, 5)
    run.room = room
    with pytest.raises(StoreError):
        write(run, 9)
    assert len(keys(run)) == 4 + room
    assert find_sound_checkpoint(run, ONE_ATTEMPT) == before
    with pytest.raises(DataError, match="holds no complete checkpoint"):
        open_checkpoint(run.child(f"checkpoints/{checkpoint_name(9, 1)}"))


def test_no_checkpoint_at_all() -> None:
    assert find_sound_checkpoint(MemoryStore(), []) is None


def test_the_newest_by_step_is_found_not_by_name() -> None:
    run = MemoryStore()
    for step in (99_999_999, 100_000_000):  # one more digit
        write(run, step)
    found = find_sound_checkpoint(run, ONE_ATTEMPT)
    assert found is not None
    assert found.step == 100_000_000


@pytest.mark.parametrize("name", ["model", "optimizer", "state"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_one_is_passed_over_with_a_warning(
    name: str, missing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = MemoryStore()
    before, newest = write(run, 5), write(run, 9)
    path = getattr(newest, name).path
    key = f"{newest.folder}/{path}"
    run.delete(key) if missing else damage(run, key)
    with caplog.at_level(logging.WARNING):
        assert find_sound_checkpoint(run, ONE_ATTEMPT) == before
    assert "checkpoint_passed_over" in caplog.text
    assert newest.name in caplog.text
    assert path in caplog.text


def test_one_with_a_damaged_receipt_is_passed_over_too(caplog: pytest.LogCaptureFixture) -> None:
    run = MemoryStore()
    before, newest = write(run, 5), write(run, 9)
    run.write(f"{newest.folder}/receipt.json", b'{"step": 9')
    assert find_sound_checkpoint(run, ONE_ATTEMPT) == before
    assert newest.name in caplog.text


def test_when_all_are_damaged_there_is_none() -> None:
    run = MemoryStore()
    damage(run, f"{write(run, 9).folder}/model.safetensors")
    assert find_sound_checkpoint(run, ONE_ATTEMPT) is None


def test_damaged_tensors_are_not_loaded() -> None:
    run = MemoryStore()
    receipt = write(run, 9)
    damage(run, f"{receipt.folder}/model.safetensors")
    with pytest.raises(ObjectCorrupt, match=r"model\.safetensors"):
        read_tensors(run.child(receipt.folder), receipt.model)


def test_what_a_later_attempt_superseded_is_ignored() -> None:
    run = MemoryStore()
    start, _, late = write(run, 50), write(run, 60), write(run, 400)
    history = [*ONE_ATTEMPT, Attempt(number=2, start_step=50, world_size=1)]
    assert late.step == 400
    assert list_checkpoints(run, history) == [start]
    again = write(run, 60, attempt=2)
    assert find_sound_checkpoint(run, history) == again


def test_two_attempts_at_one_step_write_different_objects() -> None:
    run = MemoryStore()
    assert write(run, 60).name != write(run, 60, attempt=2).name
    assert len(keys(run)) == 8


def test_pruning_keeps_the_newest_that_hold() -> None:
    run = MemoryStore()
    for step in (10, 20, 30, 500):
        write(run, step)
    history = [*ONE_ATTEMPT, Attempt(number=2, start_step=30, world_size=1)]
    newest = write(run, 40, attempt=2)
    prune_checkpoints(run, history, keep_last=2)
    assert folders(run) == {checkpoint_name(30, 1), newest.name}
    assert find_sound_checkpoint(run, history) == newest


def test_pruning_removes_what_a_crashed_attempt_left() -> None:
    run = MemoryStore()
    write(run, 10)
    run.write(f"checkpoints/{checkpoint_name(20, 1)}/model.safetensors", b"half")
    history = [*ONE_ATTEMPT, Attempt(number=2, start_step=10, world_size=1)]
    prune_checkpoints(run, history, keep_last=2)
    assert folders(run) == {checkpoint_name(10, 1)}


def test_pruning_leaves_alone_what_the_newest_attempt_is_writing() -> None:
    """An earlier attempt may still be alive; it must not spoil its successor's checkpoint."""
    run = MemoryStore()
    write(run, 10)
    being_written = checkpoint_name(20, 2)
    run.write(f"checkpoints/{being_written}/model.safetensors", b"whole, the receipt follows")
    history = [*ONE_ATTEMPT, Attempt(number=2, start_step=10, world_size=1)]
    for known in (ONE_ATTEMPT, history):
        prune_checkpoints(run, known, keep_last=1)
        assert being_written in folders(run)


def test_what_a_new_start_has_chosen_outlives_the_next_save_of_the_one_before() -> None:
    """The new one has not claimed its number yet, and the old one does not know of it."""
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        CheckpointSettings(keep_last=1)
    run = MemoryStore()
    write(run, 10)
    chosen = write(run, 20)
    assert find_sound_checkpoint(run, ONE_ATTEMPT) == chosen
    write(run, 30)
    prune_checkpoints(run, ONE_ATTEMPT, keep_last=CheckpointSettings(keep_last=2).keep_last)
    claimed = [*ONE_ATTEMPT, Attempt(number=2, start_step=20, world_size=1)]
    assert find_sound_checkpoint(run, claimed) == chosen


def test_a_crash_while_pruning_leaves_no_receipt_without_its_objects() -> None:
    class Crashing(MemoryStore):
        room = 2

        def delete(self, key: str) -> None:
            if self.room == 0:
                raise StoreError("gone", remedy="come back")
            self.room -= 1
            super().delete(key)

    run = Crashing()
    for step in (10, 20, 30):
        write(run, step)
    with pytest.raises(StoreError):
        prune_checkpoints(run, ONE_ATTEMPT, keep_last=1)
    assert [receipt.step for receipt in list_checkpoints(run, ONE_ATTEMPT)] == [30]


def test_the_state_of_another_training_is_refused_by_what_differs() -> None:
    other = STATE.model_copy(
        update={"seed": 3, "global_batch": 16, "network": NetworkSettings(width=0.5)}
    )
    with pytest.raises(DataError) as caught:
        STATE.check_continues(other)
    assert "seed is 0, not 3" in caught.value.problem
    assert "global_batch is 8, not 16" in caught.value.problem
    assert "network" in caught.value.problem
    assert "num_classes" not in caught.value.problem
    assert "run.tag" in caught.value.remedy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_key", "2" * 64),
        ("dataset_fingerprint", "2" * 64),
        ("seed", 1),
        ("global_batch", 9),
        ("num_classes", 6),
        ("network", NetworkSettings(dropout=0.4)),
        ("augment", AugmentSettings(flip=False)),
        ("step", 1),
    ],
)
def test_each_difference_is_named(field: str, value: object) -> None:
    with pytest.raises(DataError, match=f"{field} is"):
        STATE.check_continues(STATE.model_copy(update={field: value}))


def test_another_attempt_of_the_same_training_goes_on() -> None:
    STATE.check_continues(STATE.model_copy(update={"attempt": 7}))


def test_a_state_of_another_version_is_refused() -> None:
    run = MemoryStore()
    state = STATE.model_copy(update={"schema_version": 2})
    receipt = write_checkpoint(run, state, {}, {})
    with pytest.raises(DataError, match="that this version reads"):
        open_checkpoint(run.child(receipt.folder))
