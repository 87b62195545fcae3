import errno
import os
import tempfile
from pathlib import Path

import pytest

from infra.errors import ServiceError, TrackingError
from infra.temporary import lacks_room, temporary_folder


def test_the_folder_is_gone_afterwards() -> None:
    with temporary_folder("alexnet-test-") as folder:
        (folder / "a").write_text("1")
    assert not folder.exists()


def test_where_there_is_no_place_for_it_the_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(TrackingError, match="gone") as caught, temporary_folder("a", TrackingError):
        pass
    assert "$TMPDIR" in caught.value.remedy


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_block_that_finds_no_room_ends_with_a_remedy(number: int) -> None:
    with pytest.raises(ServiceError, match="no room") as caught, temporary_folder("a"):
        raise OSError(number, os.strerror(number))
    assert "$TMPDIR" in caught.value.remedy


def test_other_errors_of_the_block_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), temporary_folder("a"):
        raise PermissionError(errno.EACCES, "not yours")


def test_a_full_disk_is_known_by_what_a_library_kept_of_it() -> None:
    assert lacks_room(RuntimeError("##### File a ##### [Errno 28] No space left on device"))
    assert not lacks_room(RuntimeError("connection refused"))
