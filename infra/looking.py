"""Whether something lies at a path: pathlib raises where a folder on the way is closed to us.

Up to Python 3.13 it does, and for a name that is too long: a traceback in place of the error of
whoever opens the file.
"""

from pathlib import Path


def may_exist(path: Path) -> bool:
    """Tell whether something is there, or may be: of what nobody may look at, opening it tells."""
    try:
        return path.exists()
    except PermissionError:
        return True
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a folder is known to be there."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Tell whether a file is known to be there."""
    try:
        return path.is_file()
    except OSError:
        return False
