"""Whether anybody works on a folder, asked by someone who does not want to take its lease."""

import time
from collections.abc import Callable

from infra.claims import read_owner
from infra.lease import LeaseTimings
from infra.store import ObjectStore


def is_abandoned(
    store: ObjectStore,
    *,
    timings: LeaseTimings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Tell whether a lease is free, by the rules that a waiter would take it over by.

    Where its owner may live, this listens for the next heartbeat, for `stale_s` at most.

    Args:
        store: the folder.
        timings: seconds; the defaults unless a test says otherwise.
        clock: seconds, monotonic.

    Raises:
        ObjectCorrupt: a claim or heartbeat cannot be read.
    """
    timings = timings or LeaseTimings.of(store)
    first = owner = read_owner(store)
    silence_s, looked_at = 0.0, clock()
    while owner is not None and owner == first and not owner.has_ended:
        if silence_s >= timings.stale_s:
            return True
        time.sleep(timings.poll_s)
        owner = read_owner(store)
        # A look that took long met a store that was away, for the owner's beats as well.
        now = clock()
        silence_s, looked_at = silence_s + min(now - looked_at, timings.beat_s), now
    return owner is None or owner.has_ended
