"""What lies in a folder's `lease/`: who claimed the work, and the last signs of life.

lease/0007.json   a claim: number, owner, process; written once, the highest number counts
lease/0007.beat   the owner's heartbeat: rewritten every few seconds, at last as released
"""

import re
from dataclasses import dataclass
from typing import Final

from infra.commit import Frozen, parse_receipt, read_receipt
from infra.process_identity import ProcessIdentity, is_known_dead
from infra.store import ObjectStore

FOLDER: Final = "lease/"
_KEPT_CLAIMS: Final = 4
_KEY: Final = re.compile(rf"{FOLDER}(?P<number>[0-9]{{4,}})\.(?P<kind>json|beat)")


class Claim(Frozen):
    """One process's wish to work; granted when its number is the highest."""

    number: int
    owner: str
    """A random token: tells our own claim from one that looks the same."""
    process: ProcessIdentity


class Beat(Frozen):
    """What the owner last said."""

    count: int
    released: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made a claim, and the last sign of life."""

    claim: Claim
    beat: bytes | None
    has_ended: bool
    """Whether the lease was released, or its owner is known dead."""


def read_owner(store: ObjectStore, number: int | None = None) -> Owner | None:
    """Read a claim of a folder, by default the newest; None where there is none.

    Raises:
        ObjectCorrupt: it or its heartbeat cannot be read.
    """
    number = newest_number(store) if number is None else number
    if (body := read_receipt(store, claim_key(number))) is None:
        return None
    claim = parse_receipt(Claim, body, f"{store.uri}/{claim_key(number)}")
    beat = read_receipt(store, beat_key(number))
    return Owner(claim, beat, _is_released(store, number, beat) or is_known_dead(claim.process))


def was_let_go(store: ObjectStore) -> bool:
    """Tell whether a folder has no claim, or one whose owner released it.

    Otherwise its owner works, or was killed at work.

    Raises:
        ObjectCorrupt: the owner's heartbeat cannot be read.
    """
    newest = newest_number(store)
    return newest == 0 or _is_released(store, newest, read_receipt(store, beat_key(newest)))


def newest_number(store: ObjectStore) -> int:
    """Return the number of the claim that counts; 0 where there is none."""
    claims = [int(match["number"]) for match in _listed(store) if match["kind"] == "json"]
    return max(claims, default=0)


def create_claim(store: ObjectStore, claim: Claim) -> bool:
    """Write a claim where its number is free; False where it is another's."""
    # A create that was sent twice finds its own first try: the token says so.
    return store.create(claim_key(claim.number), claim.to_bytes()) or is_there(store, claim)


def is_there(store: ObjectStore, claim: Claim) -> bool:
    """Tell whether this very claim lies where its number says, and no other's."""
    return read_receipt(store, claim_key(claim.number)) == claim.to_bytes()


def delete_old_claims(store: ObjectStore, number: int) -> None:
    """Delete the claims, and their beats, that are long before this one."""
    for match in _listed(store):
        if int(match["number"]) <= number - _KEPT_CLAIMS:
            store.delete(match.string)


def claim_key(number: int) -> str:
    """Return where a claim lies."""
    return f"{FOLDER}{number:04}.json"


def beat_key(number: int) -> str:
    """Return where its owner's heartbeat lies."""
    return f"{FOLDER}{number:04}.beat"


def _listed(store: ObjectStore) -> list[re.Match[str]]:
    """List claims and beats; not what a file manager or NFS leaves beside them."""
    return [match for info in store.list(FOLDER) if (match := _KEY.fullmatch(info.key))]


def _is_released(store: ObjectStore, number: int, beat: bytes | None) -> bool:
    where = f"{store.uri}/{beat_key(number)}"
    return beat is not None and parse_receipt(Beat, beat, where).released
