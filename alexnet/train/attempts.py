"""Attempts: every start of the group of workers claims the next number, and says where it starts.

A store cannot refuse a late write, so results must not need it to: what attempt k wrote beyond the
start of attempt k + 1 is superseded, whenever it arrives.
"""

from typing import Annotated

from pydantic import Field

from infra.commit import Frozen, parse_receipt
from infra.store import ObjectStore


class Attempt(Frozen):
    """One start of the group of workers."""

    number: Annotated[int, Field(ge=1)]
    start_step: Annotated[int, Field(ge=0)]
    """The state it continues from: steps below it are an earlier attempt's."""
    world_size: Annotated[int, Field(ge=1)]
    use_gpu: bool = False
    """Whether each worker had a GPU; earlier versions did not note it."""


def read_attempts(store: ObjectStore) -> list[Attempt]:
    """Read the attempts of a run, by number."""
    return [
        parse_receipt(Attempt, store.read(info.key), f"{store.uri}/{info.key}")
        for info in store.list("attempts/")
    ]


def claim_attempt(
    store: ObjectStore, *, start_step: int, world_size: int, use_gpu: bool = False
) -> Attempt:
    """Take the next free number, whoever else is trying."""
    number = len(read_attempts(store)) + 1
    while True:
        attempt = Attempt(
            number=number, start_step=start_step, world_size=world_size, use_gpu=use_gpu
        )
        if store.create(f"attempts/{number:04}.json", attempt.to_bytes()):
            return attempt
        number += 1


def is_current_state(*, step: int, attempt: int, attempts: list[Attempt]) -> bool:
    """Tell whether this attempt's state after `step` updates still counts.

    It does as long as no later attempt started before it.
    """
    return all(step <= later.start_step for later in attempts if later.number > attempt)
