"""From what a user writes (a directory or a URI) to the store behind it."""

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from infra.errors import RecipeError
from infra.store.base import ObjectStore
from infra.store.folder import FolderStore

# Of two letters or more: C:/data is a directory elsewhere.
_SCHEME_AND_ONE_SLASH: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_WAYS: Final = {"file": "file:///…", "s3": "s3://…"}


def open_store(uri: str | os.PathLike[str]) -> ObjectStore:
    """Open the store at a directory, relative or not, at `file://…` or at `s3://bucket/prefix`.

    Raises:
        RecipeError: nothing is named, another scheme, a slash is missing behind it, no bucket,
            another machine's file, or the home of a user there is not.

    """
    uri = os.fspath(uri)
    scheme, separator, rest = uri.partition("://")
    if not separator:
        _refuse_what_is_no_directory(uri)
        return FolderStore(_expanded(uri))
    if scheme == "file":
        return FolderStore(_path_of_file_uri(rest))
    if scheme == "s3":
        from infra.store.s3 import parse_s3_uri

        return parse_s3_uri(uri)
    # Without the rest, which may hold a password.
    raise RecipeError(f"there is no store for {scheme}://", remedy=_NAME_A_PLACE)


_NAME_A_PLACE: Final = "name a directory, s3://… or file:///…"


def open_parent(uri: str | os.PathLike[str]) -> tuple[ObjectStore, str]:
    """Open the folder or prefix that an object at a path or URI is in; return its name there too.

    The name is "" where nothing is above: of a bucket, of `/`.

    Raises:
        RecipeError: as `open_store`.
    """
    store = open_store(uri)
    if isinstance(store, FolderStore):
        path = Path(store.uri)
        return FolderStore(path.parent), "" if path.name == ".." else path.name
    folder, _, name = store.uri.rpartition("/")
    return (store, "") if folder.endswith("/") else (open_store(folder), name)


def _refuse_what_is_no_directory(path: str) -> None:
    """Refuse "", which is the current directory by accident, and a URI that lacks a slash."""
    if not path:
        raise RecipeError(
            "no place is named: the path is empty, as a variable of the shell that is not set is",
            remedy="name a directory, . for the current one, or a URI",
        )
    if (mistyped := _SCHEME_AND_ONE_SLASH.match(path)) is not None:
        scheme = mistyped[1]
        raise RecipeError(
            f"{scheme}:/… would be a folder named {scheme}: in the current one"
            + (f"; did you mean {_WAYS[scheme]}?" if scheme in _WAYS else ""),
            remedy=f"{_NAME_A_PLACE}; put ./ before a folder of that name",
        )


def _path_of_file_uri(rest: str) -> Path:
    # Not by urlsplit: it takes # and ? for the end of a name.
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise RecipeError(
            f"file://{rest} names the host {host!r}",
            remedy=f"write file:///{rest} if /{rest} is meant, else the path alone",
        )
    return Path("/" + unquote(path).lstrip("/"))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RecipeError(
            f"{path}: no such user's home directory",
            remedy="write the directory out, or put ./ before a name that starts with ~",
        ) from error
