import threading
import time

import pytest

from infra.abandoned import is_abandoned
from infra.canonical import canonical_json
from infra.claims import Beat, Claim
from infra.lease import LeaseTimings, hold_lease
from infra.process_identity import ProcessIdentity, this_process
from infra.store import MemoryStore

QUICK = LeaseTimings(beat_s=0.05, stale_s=0.3, poll_s=0.01)


def claim_as(store: MemoryStore, number: int, process: ProcessIdentity) -> None:
    claim = Claim(number=number, owner="another", process=process)
    store.write(f"lease/{number:04}.json", canonical_json(claim.model_dump()))


def elsewhere() -> ProcessIdentity:
    return this_process().model_copy(update={"host": "another-host"})


def test_a_folder_that_was_never_claimed_or_is_released_is_free() -> None:
    store = MemoryStore()
    assert is_abandoned(store)
    with hold_lease(store):
        pass
    assert is_abandoned(store)


def test_one_at_work_is_heard_at_its_next_beat() -> None:
    store = MemoryStore()
    with hold_lease(store, timings=QUICK):
        started = time.monotonic()
        assert not is_abandoned(store, timings=QUICK)
        assert time.monotonic() - started < QUICK.stale_s


def test_a_process_that_is_known_dead_is_not_listened_for() -> None:
    store = MemoryStore()
    claim_as(store, 1, this_process().model_copy(update={"started": "1"}))
    started = time.monotonic()
    assert is_abandoned(store, timings=LeaseTimings(stale_s=30))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("has_beaten", [True, False])
def test_another_host_is_believed_for_a_while(has_beaten: bool) -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    if has_beaten:
        body = canonical_json(Beat(count=1, released=False).model_dump())
        store.write("lease/0001.beat", body)
    started = time.monotonic()
    assert is_abandoned(store, timings=QUICK)
    assert time.monotonic() - started >= QUICK.stale_s


def test_who_takes_a_silent_ones_work_over_is_at_work() -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    timer = threading.Timer(0.1, claim_as, [store, 2, elsewhere()])
    timer.start()
    assert not is_abandoned(store, timings=QUICK)
    timer.join()


def test_a_store_that_was_away_makes_nobody_silent() -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    looks = iter([0.0, *(60.0 + second for second in range(100))])
    left = LeaseTimings(poll_s=0.001)
    assert is_abandoned(store, timings=left, clock=lambda: next(looks))
    # 60 s that nobody could listen count for a beat.
    assert next(looks) == 60.0 + left.stale_s - left.beat_s + 1
