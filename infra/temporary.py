"""A folder for a while, and what to say when there is no room for it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from infra.errors import ServiceError

MAKE_ROOM: Final = (
    "make room there, which for temporary files is $TMPDIR (/tmp where it is not set), or set it to"
    " a directory that has room; then run again"
)
_SIGNS: Final = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


@contextmanager
def temporary_folder(prefix: str, raised: type[ServiceError] = ServiceError) -> Iterator[Path]:
    """Give the block a folder, which is deleted at its end.

    Raises:
        ServiceError: or what is to be raised: there is no place for one, or no room for what the
            block writes.
    """
    try:
        folder = TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise raised(f"no temporary folder can be made: {error}", remedy=MAKE_ROOM) from error
    with folder as directory:
        try:
            yield Path(directory)
        except OSError as error:
            if not lacks_room(error):
                raise
            raise raised(f"there is no room for files: {error}", remedy=MAKE_ROOM) from error


def lacks_room(error: BaseException) -> bool:
    """Tell whether it says that a disk is full: libraries keep the text and drop the number."""
    return any(sign in str(error) for sign in _SIGNS)
