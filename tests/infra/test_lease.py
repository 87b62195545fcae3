import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra.canonical import canonical_json
from infra.claims import Beat, Claim
from infra.errors import LeaseLost, ObjectCorrupt, StoreError
from infra.lease import Lease, LeaseTimings, hold_lease
from infra.process_identity import ProcessIdentity, this_process
from infra.store import FolderStore, MemoryStore, ObjectStore

QUICK = LeaseTimings(beat_s=0.05, stale_s=0.3, poll_s=0.01)

HOLD = """
import pathlib, sys, time
from infra.lease import hold_lease
from infra.store import FolderStore
with hold_lease(FolderStore(pathlib.Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(600)
"""

IN_THE_BACKGROUND = """
import pathlib, signal, sys, time
from infra.errors import LeaseLost
from infra.lease import LeaseTimings, hold_lease
from infra.store import FolderStore
from pipelines.cli import _configure_process
signal.signal(signal.SIGINT, signal.SIG_IGN)
_configure_process()
try:
    with hold_lease(FolderStore(pathlib.Path(sys.argv[1])), timings=LeaseTimings(beat_s=0.2)):
        print("held", flush=True)
        time.sleep(600)
except LeaseLost:
    print("lost", flush=True)
"""

TAKE_TURNS = """
import os, pathlib, sys
from infra.lease import LeaseTimings, hold_lease
from infra.store import FolderStore
root = pathlib.Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    with hold_lease(FolderStore(root / "store"), timings=LeaseTimings(poll_s=0.005)):
        os.close(os.open(root / "alone", os.O_CREAT | os.O_EXCL))
        os.unlink(root / "alone")
        with open(root / "turns", "a") as turns:
            turns.write("x")
"""


@contextmanager
def another_holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def claim_as(store: ObjectStore, number: int, process: ProcessIdentity) -> None:
    claim = Claim(number=number, owner="another", process=process)
    assert store.create(f"lease/{number:04}.json", canonical_json(claim.model_dump()))


def beat_as(store: ObjectStore, number: int, count: int) -> None:
    body = canonical_json(Beat(count=count, released=False).model_dump())
    store.write(f"lease/{number:04}.beat", body)


def elsewhere() -> ProcessIdentity:
    return this_process().model_copy(update={"host": "another-host"})


def test_a_released_lease_is_free_at_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    started_at = time.monotonic()
    for number in (1, 2, 3):
        with hold_lease(store) as lease:
            assert lease.number == number
    assert time.monotonic() - started_at < 1


def test_a_lease_is_released_when_the_work_fails(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(RuntimeError, match="work"), hold_lease(store):
        raise RuntimeError("work")
    with hold_lease(store) as lease:
        assert not lease.lost


def test_old_claims_are_deleted(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for _ in range(12):
        with hold_lease(store):
            pass
    assert len(list(store.list("lease/"))) <= 8


def test_the_work_of_a_killed_process_is_taken_over_within_a_second(tmp_path: Path) -> None:
    waited_for: list[Claim] = []

    def kill_soon(claim: Claim) -> None:
        waited_for.append(claim)
        os.kill(claim.process.pid, signal.SIGKILL)

    # Killed and not reaped: a zombie still has a pid and a start time.
    with another_holder(tmp_path) as other:
        started_at = time.monotonic()
        with hold_lease(FolderStore(tmp_path), wait_report=kill_soon) as lease:
            assert time.monotonic() - started_at < 1
            assert lease.number == 2
    assert [claim.process.pid for claim in waited_for] == [other.pid]


def test_a_live_process_is_waited_for(tmp_path: Path) -> None:
    entered = threading.Event()

    def wait() -> int:
        with hold_lease(FolderStore(tmp_path)) as lease:
            entered.set()
            return lease.number

    with ThreadPoolExecutor(1) as pool, another_holder(tmp_path) as other:
        waiting = pool.submit(wait)
        assert not entered.wait(0.6)
        other.kill()
        assert waiting.result(timeout=5) == 2


def test_another_host_is_believed_until_it_falls_silent() -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    looks = 0

    def clock() -> float:
        """A second from look to look; in the first hundred the other host beats every fifth."""
        nonlocal looks
        looks += 1
        if looks <= 100 and looks % 5 == 0:
            beat_as(store, 1, looks)
        return float(looks)

    timings = LeaseTimings(poll_s=0.0)
    with hold_lease(store, timings=timings, clock=clock) as lease:
        assert lease.number == 2
        assert looks == 101 + timings.stale_s  # the look after the last beat still hears it


def store_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> ObjectStore:
    match kind:
        case "memory":
            return MemoryStore()
        case "folder":
            return FolderStore(folder)
        case _:
            return request.getfixturevalue("s3_store")


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_claim_without_any_heartbeat_is_taken_over_when_stale(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = store_of(kind, tmp_path, request)
    claim_as(store, 1, elsewhere())
    started_at = time.monotonic()
    with hold_lease(store, timings=QUICK):
        assert time.monotonic() - started_at >= QUICK.stale_s


def test_a_store_that_was_away_makes_nobody_silent() -> None:
    """Its owner could not be heard: a look that took a minute counts for a beat, not for twelve."""
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    beat_as(store, 1, 1)
    looks = [0.0, 0.0, *(60.0 + second for second in range(100))]
    times = iter(looks)
    left = LeaseTimings(poll_s=0.001)
    with hold_lease(store, timings=left, clock=lambda: next(times)):
        taken_over_at = looks[len(looks) - len(list(times)) - 1]
    assert taken_over_at == 60.0 + left.stale_s - left.beat_s


def test_silence_is_measured_by_our_own_clock() -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    times = iter(range(0, 1000, 10))
    quick_to_look = LeaseTimings(poll_s=0.001)
    started_at = time.monotonic()
    with hold_lease(store, timings=quick_to_look, clock=lambda: float(next(times))):
        assert time.monotonic() - started_at < 1


def test_a_block_that_sleeps_is_interrupted_when_its_lease_is_lost() -> None:
    store = MemoryStore()
    timer = threading.Timer(0.2, claim_as, [store, 2, elsewhere()])

    def sleep_long() -> None:
        with hold_lease(store, timings=QUICK):
            timer.start()
            time.sleep(30)

    started_at = time.monotonic()
    with pytest.raises(LeaseLost, match="took this work over"):
        sleep_long()
    assert time.monotonic() - started_at < 5
    timer.join()


def test_a_background_job_is_interrupted_too_when_its_lease_is_lost(tmp_path: Path) -> None:
    """A shell without job control has it ignore SIGINT; the command line listens to SIGTERM."""
    command = [sys.executable, "-c", IN_THE_BACKGROUND, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGINT)
        claim_as(FolderStore(tmp_path), 2, elsewhere())
        assert process.communicate(timeout=20)[0] == "lost\n"


def test_whatever_a_block_raised_a_lost_lease_is_called_so() -> None:
    store = MemoryStore()

    def fail_when_lost() -> None:
        with hold_lease(store, timings=QUICK) as lease:
            claim_as(store, 2, elsewhere())
            with suppress(KeyboardInterrupt):
                time.sleep(30)
            assert lease.lost
            raise ObjectCorrupt("another wrote here", remedy="none")

    with pytest.raises(LeaseLost, match="took this work over") as caught:
        fail_when_lost()
    assert isinstance(caught.value.__cause__, ObjectCorrupt)


def test_a_block_in_another_thread_sees_that_its_lease_is_lost() -> None:
    store = MemoryStore()

    def work() -> bool:
        with hold_lease(store, timings=QUICK) as lease:
            claim_as(store, 2, elsewhere())
            while not lease.lost:
                time.sleep(0.01)
        return False

    with ThreadPoolExecutor(1) as pool, pytest.raises(LeaseLost):
        pool.submit(work).result(timeout=5)


def test_a_look_tells_at_once_that_a_lease_is_lost() -> None:
    store = MemoryStore()
    claim_as(store, 1, this_process())
    lease = Lease(store, 1)
    lease.check()
    claim_as(store, 2, elsewhere())
    with pytest.raises(LeaseLost, match="took this work over"):
        lease.check()
    assert lease.lost


def test_a_claim_that_was_cleaned_away_is_not_taken_for_one_of_the_same_number() -> None:
    """Numbers begin anew when `prepare --clean` has forgotten them all."""

    def work() -> None:
        with hold_lease(store) as lease:
            store.delete(f"lease/{lease.number:04}.json")
            claim_as(store, lease.number, elsewhere())
            lease.check()

    store = MemoryStore()
    with pytest.raises(LeaseLost):
        work()


def test_a_deletion_is_not_tried_again_once_the_lease_is_lost() -> None:
    class Away(MemoryStore):
        """Fails at a deletion, which takes longer than the owner may be silent."""

        def delete(self, key: str) -> None:
            claim_as(self, 2, elsewhere())
            raise StoreError("it stayed away", remedy="none")

    store = Away()
    store.write("a", b"theirs by now")
    with pytest.raises(LeaseLost):
        Lease(store, 1).delete(store, "a")


def test_a_deletion_that_failed_is_tried_once_more_while_the_lease_holds() -> None:
    class Flaky(MemoryStore):
        failures = 1

        def delete(self, key: str) -> None:
            if self.failures:
                self.failures -= 1
                raise StoreError("it stayed away", remedy="none")
            super().delete(key)

    store = Flaky()
    store.write("a", b"")
    Lease(store, 1).delete(store, "a")
    assert store.stat("a") is None


def test_the_users_interrupt_stays_one() -> None:
    store = MemoryStore()
    with pytest.raises(KeyboardInterrupt), hold_lease(store):
        raise KeyboardInterrupt
    with hold_lease(store, timings=QUICK) as lease:
        assert lease.number == 2


def test_a_late_claim_of_a_deleted_number_is_withdrawn() -> None:
    class SlowToLook(MemoryStore):
        """Shows an empty folder first, as one who looked long ago saw it."""

        looks = 0

        def list(self, prefix: str = ""):  # type: ignore[no-untyped-def] # noqa: ANN202
            self.looks += 1
            return iter(()) if self.looks == 1 else super().list(prefix)

    store = SlowToLook()
    claim_as(store, 8, elsewhere())
    with hold_lease(store, timings=QUICK) as lease:
        assert lease.number == 9
    assert store.stat("lease/0001.json") is None


@pytest.mark.parametrize("kind", ["memory", "folder", "s3"])
def test_of_eight_threads_one_works_at_a_time(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = store_of(kind, tmp_path, request)
    alone = threading.Lock()
    start = threading.Barrier(8)

    def work(_: int) -> int:
        start.wait()
        for _turn in range(3):
            with hold_lease(store, timings=LeaseTimings(poll_s=0.003)):
                assert alone.acquire(blocking=False)
                time.sleep(0.001)
                alone.release()
        return 3

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 24


def test_of_four_processes_one_works_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE_TURNS, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0] * 4
    assert (tmp_path / "turns").read_text() == "x" * 20


def test_the_heart_outlives_a_store_that_fails_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, folder = FolderStore(tmp_path), tmp_path / "lease"
    with hold_lease(store, timings=QUICK) as lease:
        folder.rename(tmp_path / "aside")
        folder.write_bytes(b"")  # a file where the folder was: nothing can be written
        while "lease_beats_fail" not in caplog.text:
            time.sleep(0.01)
        folder.unlink()
        (tmp_path / "aside").rename(folder)
        (folder / "0001.beat").unlink(missing_ok=True)
        while not (folder / "0001.beat").exists():
            time.sleep(0.01)
        assert not lease.lost


@pytest.mark.parametrize("name", ["0001.json", "0001.beat"])
def test_a_claim_or_beat_that_was_cut_is_named(name: str) -> None:
    store = MemoryStore()
    claim_as(store, 1, elsewhere())
    store.write(f"lease/{name}", b"")
    with pytest.raises(ObjectCorrupt, match=f"lease/{name}"), hold_lease(store, timings=QUICK):
        pass


def test_what_others_leave_beside_the_claims_is_passed_over() -> None:
    store = MemoryStore()
    strangers = {".DS_Store", ".nfs000012.json", "7.json", "note", "0009.json.swp", "x.beat"}
    for name in strangers:
        store.write(f"lease/{name}", b"")
    for number in range(1, 7):
        with hold_lease(store, timings=QUICK) as lease:
            assert lease.number == number
    left = {info.key.removeprefix("lease/") for info in store.list("lease/")}
    assert strangers < left
    assert len(left - strangers) <= 8


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_ctrl_c_while_the_heart_begins_leaves_none_beating(
    monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    """In a notebook it would keep the lease for ever."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if has_begun:
            start(thread)
        raise KeyboardInterrupt

    store, before = MemoryStore(), set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), hold_lease(store, timings=QUICK):
            pass
    assert set(threading.enumerate()) <= before

    def wait(claim: Claim) -> None:
        pytest.fail(f"{claim} is waited for")

    with hold_lease(store, wait_report=wait, timings=LeaseTimings(stale_s=600)):
        pass
