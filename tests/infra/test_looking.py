"""As root everything may be looked at: the system's answer is played."""

import errno
from pathlib import Path
from typing import NoReturn

import pytest

from infra.looking import is_file, is_folder, may_exist


def test_what_is_there_is_told_from_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert [may_exist(tmp_path / "a"), is_file(tmp_path / "a"), is_folder(tmp_path)] == [True] * 3
    assert [is_folder(tmp_path / "a"), is_file(tmp_path), may_exist(tmp_path / "b")] == [False] * 3


def test_a_name_that_is_too_long_is_of_nothing(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 300)
    assert [may_exist(long), is_file(long), is_folder(long)] == [False] * 3


def test_of_a_place_that_nobody_may_look_into_opening_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refused)
        told = [may_exist(tmp_path), is_file(tmp_path), is_folder(tmp_path)]
    assert told == [True, False, False]
