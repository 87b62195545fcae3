"""From what a user writes (a directory or a URI) to the store behind it."""

from pathlib import Path
from urllib.parse import unquote

from infra.errors import RecipeError
from infra.store.base import ObjectStore
from infra.store.folder import FolderStore


def open_store(uri: str) -> ObjectStore:
    """Open the store at a directory, relative or not, at `file://…` or at `s3://bucket/prefix`.

    Raises:
        RecipeError: another scheme, no bucket, another machine's file, or the home of a user there
            is not.

    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return FolderStore(_expanded(uri))
    if scheme == "file":
        return FolderStore(_path_of_file_uri(rest))
    if scheme == "s3":
        from infra.store.s3 import parse_s3_uri

        return parse_s3_uri(uri)
    raise RecipeError(
        f"{uri}: no store for {scheme}://", remedy="name a directory, s3://… or file://…"
    )


def open_parent(uri: str) -> tuple[ObjectStore, str]:
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
