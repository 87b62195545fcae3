"""A checkpoint: all state or none, as safetensors and JSON, sealed by a receipt written last.

    checkpoints/step-00012000-a0003/   model.safetensors  optimizer.safetensors  state.json
                                       average.safetensors, where one is kept; receipt.json

The attempt is in the name, so that two attempts that reach the same step never write the same
object. Loading never unpickles.
"""

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.attempts import Attempt, is_current_state
from infra.commit import Frozen, StoredObject, commit_receipt, read_object, write_object
from infra.errors import DataError, ObjectCorrupt
from infra.store import ObjectStore

if TYPE_CHECKING:  # torch takes a second to load, and most commands only read receipts
    from torch import Tensor

log = logging.getLogger(__name__)

RECEIPT = "receipt.json"
MADE_AGAIN: Final = (
    "restore it from a copy; or delete finished.json in its run's folder and run again: training"
    " goes on from the newest checkpoint that is whole"
)
"""What to do about a damaged checkpoint; without it alone a finished run would have no end."""
_NAME = re.compile(r"^checkpoints/step-(\d{8,})-a(\d{4,})/")


class LossesSoFar(Frozen):
    """What a checkpoint keeps of the epochs' mean losses."""

    finished: tuple[float, ...] = ()
    """Mean over the images of each finished epoch, natural logarithm."""
    partial_sum: float = 0.0
    """Sum over the images of the epoch that has begun."""
    partial_rows: int = 0
    """How many those are."""


class TrainState(Frozen):
    """Where a run stands, and all that must be the same for it to go on."""

    schema_version: Literal[1] = 1
    step: int
    """Updates made: the next step's number."""
    epoch: int
    """Epoch of the next step, 0-based."""
    attempt: int
    run_key: str
    dataset_fingerprint: str
    seed: int
    global_batch: int
    num_classes: int
    network: NetworkSettings
    augment: AugmentSettings
    losses: LossesSoFar | None = None
    """Where the schedule looks at them."""

    def check_continues(self, other: "TrainState") -> None:
        """Refuse to go on from this state as another training.

        Raises:
            DataError: names what differs.
        """
        fields = set(TrainState.model_fields) - {"attempt", "epoch", "losses"}
        differs = sorted(name for name in fields if getattr(self, name) != getattr(other, name))
        if differs:
            raise DataError(
                f"the checkpoint of step {self.step} is of another training: "
                + ", ".join(
                    f"{name} is {getattr(self, name)}, not {getattr(other, name)}"
                    for name in differs
                ),
                remedy="use the recipe it was made with, or set run.tag to start a new run",
            )


class CheckpointReceipt(Frozen):
    """What a complete checkpoint consists of; paths are relative to its folder."""

    step: int
    attempt: int
    state: StoredObject
    model: StoredObject
    optimizer: StoredObject
    average: StoredObject | None = None
    """The average of the weights, where one is kept."""

    @property
    def evaluated_weights(self) -> StoredObject:
        """The weights that are evaluated and published: the average, where one is kept."""
        return self.average or self.model

    @property
    def objects(self) -> list[StoredObject]:
        """Everything it consists of."""
        items = (self.state, self.model, self.optimizer, self.average)
        return [item for item in items if item is not None]

    @property
    def name(self) -> str:
        """The folder's name."""
        return checkpoint_name(self.step, self.attempt)

    @property
    def folder(self) -> str:
        """Its folder, relative to the run's."""
        return _folder_of(self.step, self.attempt)


def checkpoint_name(step: int, attempt: int) -> str:
    """Name the folder of the state after `step` updates, by attempt."""
    return f"step-{step:08}-a{attempt:04}"


def _folder_of(step: int, attempt: int) -> str:
    return f"checkpoints/{checkpoint_name(step, attempt)}"


def write_checkpoint(
    run: ObjectStore,
    state: TrainState,
    model: Mapping[str, "Tensor"],
    optimizer: Mapping[str, "Tensor"],
    average: Mapping[str, "Tensor"] | None = None,
) -> CheckpointReceipt:
    """Write all of a run's state below its folder; it exists when the receipt does."""
    from safetensors.torch import save

    store = run.child(_folder_of(state.step, state.attempt))
    receipt = CheckpointReceipt(
        step=state.step,
        attempt=state.attempt,
        model=write_object(store, "model.safetensors", save(_on_cpu(model))),
        optimizer=write_object(store, "optimizer.safetensors", save(_on_cpu(optimizer))),
        average=None
        if average is None
        else write_object(store, "average.safetensors", save(_on_cpu(average))),
        state=write_object(store, "state.json", state.to_bytes()),
    )
    commit_receipt(store, RECEIPT, receipt.to_bytes())
    return receipt


def list_checkpoints(run: ObjectStore, attempts: list[Attempt]) -> list[CheckpointReceipt]:
    """Read the complete checkpoints that no later attempt superseded, oldest first.

    One whose receipt cannot be read is passed over with a warning.
    """
    found = []
    for info in run.list("checkpoints/"):
        match = _NAME.match(info.key) if info.key.endswith(RECEIPT) else None
        if match is None:
            continue
        step, attempt = int(match[1]), int(match[2])
        if is_current_state(step=step, attempt=attempt, attempts=attempts):
            try:
                found.append(CheckpointReceipt.model_validate_json(run.read(info.key)))
            except (FileNotFoundError, ValidationError) as error:
                log.warning("checkpoint_passed_over %s/%s: %s", run.uri, info.key, error)
    return sorted(found, key=lambda receipt: (receipt.step, receipt.attempt))


def find_sound_checkpoint(run: ObjectStore, attempts: list[Attempt]) -> CheckpointReceipt | None:
    """Find the newest checkpoint whose bytes are all as its receipt says; None if there is none.

    A damaged one is passed over with a warning: the one before it costs steps, not the run.
    """
    for receipt in reversed(list_checkpoints(run, attempts)):
        store = run.child(receipt.folder)
        try:
            for item in receipt.objects:
                read_object(store, item)
        except ObjectCorrupt as error:
            log.warning("checkpoint_passed_over %s", error)
        else:
            return receipt
    return None


def open_checkpoint(store: ObjectStore) -> tuple[CheckpointReceipt, TrainState]:
    """Read the receipt and the state of the checkpoint in a folder.

    Raises:
        DataError: there is no complete checkpoint, or it was written by another version.
        ObjectCorrupt: the state's bytes are damaged.
    """
    try:
        receipt = CheckpointReceipt.model_validate_json(store.read(RECEIPT))
        state = TrainState.model_validate_json(read_object(store, receipt.state, remedy=MADE_AGAIN))
    except (FileNotFoundError, ValidationError) as error:
        raise DataError(
            f"{store.uri} holds no complete checkpoint that this version reads",
            remedy="name the folder of a complete checkpoint (`alexnet inspect RUN` shows it)",
        ) from error
    return receipt, state


def read_tensors(store: ObjectStore, item: StoredObject) -> dict[str, "Tensor"]:
    """Read `model`, `optimizer` or `average` of a checkpoint's receipt, digest checked."""
    from safetensors.torch import load

    return load(read_object(store, item, remedy=MADE_AGAIN))


def prune_checkpoints(run: ObjectStore, attempts: list[Attempt], *, keep_last: int) -> None:
    """Delete all but the newest complete checkpoints, receipts first, and what attempts left.

    What the newest attempt has not completed stays: it may be writing it now, and whoever prunes
    may be an earlier attempt that does not know yet that it is over.
    """
    complete = list_checkpoints(run, attempts)
    keep = {receipt.name for receipt in complete[-keep_last:]}
    known = {receipt.name for receipt in complete}
    newest = max((attempt.number for attempt in attempts), default=0)
    keys = [info.key for info in run.list("checkpoints/")]
    for key in sorted(keys, key=lambda key: not key.endswith(RECEIPT)):
        name, match = key.split("/")[1], _NAME.match(key)
        unfinished = match is not None and int(match[2]) >= newest and name not in known
        if name not in keep and not unfinished:
            run.delete(key)


def _on_cpu(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
