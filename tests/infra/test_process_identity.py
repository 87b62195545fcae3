import subprocess
import sys
from pathlib import Path

import pytest

from infra import process_identity
from infra.process_identity import is_known_dead, this_process


def test_this_process_lives() -> None:
    assert not is_known_dead(this_process())


def test_a_process_with_our_pid_and_another_start_is_dead() -> None:
    assert is_known_dead(this_process().model_copy(update={"started": "1"}))


def test_nothing_is_known_of_another_host_or_boot() -> None:
    gone = {"pid": 2**22 + 1}
    assert is_known_dead(this_process().model_copy(update=gone))
    assert not is_known_dead(this_process().model_copy(update=gone | {"host": "elsewhere"}))
    assert not is_known_dead(this_process().model_copy(update=gone | {"boot": "earlier"}))


def test_a_system_that_tells_no_start_time_is_asked_for_the_pid() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    unknown = {"started": ""}
    assert not is_known_dead(this_process().model_copy(update=unknown))
    assert is_known_dead(this_process().model_copy(update=unknown | {"pid": process.pid}))


def test_a_process_that_proc_hides_is_asked_whether_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    here = this_process()  # before: hidepid hides only what others run
    monkeypatch.setattr(process_identity, "_state_and_start", lambda _: ("", ""))
    assert not is_known_dead(here)
    assert is_known_dead(here.model_copy(update={"pid": process.pid}))
    assert is_known_dead(here.model_copy(update={"pid": 2**22 + 1}))


def test_a_process_whose_name_ends_within_a_letter_is_known(tmp_path: Path) -> None:
    program = tmp_path / ("x" * 14 + "ö")
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        identity = this_process().model_copy(update={"pid": process.pid, "started": "1"})
        assert is_known_dead(identity)
        process.kill()
