"""Exclusive work on one folder of a store: one process works, the others wait.

Who has the highest claim in `lease/` works, as long as its heart beats (`infra/claims.py`).
A store cannot stop a process that was taken over from writing late, so what is written under a
lease must be the same whoever writes it; the lease saves doing the work twice.
"""

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from infra.claims import (
    Beat,
    Claim,
    beat_key,
    claim_key,
    create_claim,
    delete_old_claims,
    is_there,
    newest_number,
    read_owner,
)
from infra.errors import LeaseLost, StoreError
from infra.process_identity import this_process
from infra.store import ObjectStore, is_remote

log = logging.getLogger(__name__)

DELETE_S: Final = 5.0
"""How long one try to delete goes on: over long before an owner's silence is, answer included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimings:
    """How often an owner speaks, how long its silence is believed, how often a waiter looks."""

    beat_s: float = 5.0
    stale_s: float = 30.0
    poll_s: float = 0.2

    @staticmethod
    def of(store: ObjectStore) -> "LeaseTimings":
        """Return what suits a place: a look at a remote one is three requests."""
        return LeaseTimings(poll_s=2.0) if is_remote(store) else LeaseTimings()


class Lease:
    """The right to work, while it lasts."""

    def __init__(self, store: ObjectStore, number: int, claim: Claim | None = None) -> None:
        """Take the claim of a number as ours; with 0, which nobody has, any claim is another's."""
        self.number = number
        self.lost = False
        """Whether another process has taken the work over."""
        self._store = store
        self._claim = claim

    def is_anothers(self, store: ObjectStore) -> bool:
        """Tell whether another's claim counts by now; given the folder, with any deadline."""
        if newest_number(store) > self.number:
            return True
        # Where all claims were cleaned away, numbers begin anew: ours may be another's.
        return self._claim is not None and not is_there(store, self._claim)

    def check(self) -> None:
        """Look, now, whether the work is still ours: who stood still does not know it otherwise.

        Raises:
            LeaseLost: another process has taken it over.
        """
        self.lost = self.lost or self.is_anothers(self._store)
        if self.lost:
            raise _lost(self._store)

    def delete(self, place: ObjectStore, key: str) -> None:
        """Delete an object while the work is ours.

        What another process makes has the same keys, and a store refuses no late deletion. So each
        try is short and begins with a look; a store that is away is waited for by looking.

        Raises:
            LeaseLost: another process has taken the work over.
        """
        quick = place.with_deadline(DELETE_S)
        self.check()
        try:
            quick.delete(key)
        except StoreError:
            self.check()
            quick.delete(key)


@contextmanager
def hold_lease(
    store: ObjectStore,
    *,
    wait_report: Callable[[Claim], None] | None = None,
    timings: LeaseTimings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Lease]:
    """Wait until nobody else works on this folder, then hold it while the block runs.

    Another's claim ends when it is released, when its process is known dead (same host), or when
    its heartbeat has not changed for `stale_s` of our own clock; while the store is away nobody can
    be heard, so that counts for no more than a beat. When another takes this lease
    over, a block in the main thread is interrupted, if SIGINT or SIGTERM has a handler of Python's;
    elsewhere it must look at `lease.lost`.

    Args:
        store: the folder; claims are kept below its `lease/`.
        wait_report: called once with each claim that is waited for.
        timings: seconds; the defaults unless a test says otherwise.
        clock: seconds, monotonic; measures the silence of others.

    Raises:
        LeaseLost: another process took over while the block ran, however the block ended.
    """
    timings = timings or LeaseTimings.of(store)
    claim = _acquire(store, timings, wait_report, clock)
    lease = Lease(store, claim.number, claim)
    heart = _Heart(store, lease, timings)
    try:
        try:
            heart.start()  # inside: a Ctrl-C here must not leave a heart that beats for ever
            yield lease
        finally:
            heart.stop()
    except BaseException as error:
        if lease.lost:
            raise _lost(store) from error
        raise
    if lease.lost:
        raise _lost(store)


def _lost(store: ObjectStore) -> LeaseLost:
    return LeaseLost(
        f"{store.uri}: another process took this work over",
        remedy="let it finish; run the same command again to wait for it and use its result",
    )


def _acquire(
    store: ObjectStore,
    timings: LeaseTimings,
    wait_report: Callable[[Claim], None] | None,
    clock: Callable[[], float],
) -> Claim:
    while True:
        newest = newest_number(store)
        _wait_until_over(store, newest, timings, wait_report, clock)
        claim = Claim(number=newest + 1, owner=secrets.token_hex(8), process=this_process())
        if not create_claim(store, claim):
            continue
        if newest_number(store) == claim.number:
            delete_old_claims(store, claim.number)
            return claim
        # We looked long ago; the number was free again because old claims are deleted.
        store.delete(claim_key(claim.number))


def _wait_until_over(
    store: ObjectStore,
    number: int,
    timings: LeaseTimings,
    wait_report: Callable[[Claim], None] | None,
    clock: Callable[[], float],
) -> None:
    """Return when the claim of this number ended, or is no longer the newest."""
    heard, silence_s, looked_at = None, 0.0, clock()
    reported = wait_report is None
    while (owner := read_owner(store, number)) is not None:
        now = clock()
        # A look that took long met a store that was away, for the owner's beats as well.
        silence_s = silence_s + min(now - looked_at, timings.beat_s) if owner.beat == heard else 0.0
        heard, looked_at = owner.beat, now
        if silence_s >= timings.stale_s or owner.has_ended:
            return
        if wait_report is not None and not reported:
            reported = True
            wait_report(owner.claim)
        time.sleep(timings.poll_s)
        if newest_number(store) != number:
            return


class _Heart:
    """The thread that says the owner is alive, and looks whether another took over."""

    def __init__(self, store: ObjectStore, lease: Lease, timings: LeaseTimings) -> None:
        # A beat that comes late is worth nothing: the next one is due.
        self._store = store.with_deadline(timings.beat_s)
        self._lease = lease
        self._beat_s = timings.beat_s
        self._count = 0
        self._is_heard = True
        self._holder = threading.current_thread()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat, begun or not; leave word that the lease is free unless it was lost."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._lease.lost:
            self._write(released=True)

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._lease.lost:
            try:
                self._write(released=False)
                self._stopped.wait(self._beat_s)
                self._look()
            except Exception:  # a heart that stands still would cost the lease hours later
                log.exception("lease_beat_failed store=%s", self._store.uri)
                self._stopped.wait(self._beat_s)

    def _look(self) -> None:
        with suppress(StoreError):  # said by `_write`: it meets the same outage
            self._lease.lost = self._lease.is_anothers(self._store)
        if self._lease.lost and not self._stopped.is_set():
            log.warning("lease_lost store=%s number=%d", self._store.uri, self._lease.number)
            self._interrupt()

    def _write(self, *, released: bool) -> None:
        self._count += 1
        beat = Beat(count=self._count, released=released)
        try:
            self._store.write(beat_key(self._lease.number), beat.to_bytes())
        except StoreError as error:
            if self._is_heard:
                log.warning("lease_beats_fail store=%s problem=%s", self._store.uri, error)
            self._is_heard = False
        else:
            if not self._is_heard:
                log.warning("lease_beats_again store=%s", self._store.uri)
            self._is_heard = True

    def _interrupt(self) -> None:
        # Not _thread.interrupt_main(): that sets a flag, but wakes no main thread that sleeps.
        main = threading.main_thread()
        if self._holder is not main or main.ident is None:
            return
        # What a script starts in the background ignores SIGINT, and so do its children.
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                signal.pthread_kill(main.ident, number)
                return
