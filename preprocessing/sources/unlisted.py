"""What no listing of a directory shows: it is refused by name, or would be left out without a word.

A folder that is a link: a walk that follows them may never end. A link that leads nowhere. A folder
that this user may not read. In an object store there is no such thing.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from infra.errors import DataError


def refuse_unlisted(entries: Iterable[os.DirEntry[str]], *, hidden: str, suffix: str = "") -> None:
    """Refuse what a store passes over, below entries of a folder; links to files are followed.

    Args:
        hidden: names that begin with one of these characters are no matter.
        suffix: nor are links that lead nowhere without this ending.

    Raises:
        DataError: names it.
    """
    waiting = list(entries)
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            waiting += entries_of(entry.path, hidden)
        elif entry.is_symlink() and not _is_followed(entry, suffix):
            raise DataError(
                f"{entry.path} is a link that is not followed",
                remedy="put the folder itself there, or link its files",
            )


def entries_of(folder: str, hidden: str) -> list[os.DirEntry[str]]:
    """List a folder, but for what is hidden; nothing where there is none.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            # Of a disk's own lost+found nobody expects images, and few may read it.
            return [e for e in entries if e.name[0] not in hidden and e.name != "lost+found"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror}",
            remedy="give this user the right to read it, or take it out",
        ) from error


def _is_followed(link: os.DirEntry[str], suffix: str) -> bool:
    path = Path(link.path)
    return path.is_file() or not (path.is_dir() or link.name.endswith(suffix))
