"""From what a user writes (a directory or a URI) to the store behind it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.errors import RecipeError
from infra.store.base import ObjectStore
from infra.store.folder import FolderStore


def open_store(uri: str) -> ObjectStore:
    """Open the store at a directory, relative or not, at `file://…` or at `s3://bucket/prefix`.

    Raises:
        RecipeError: another scheme, no bucket, or the home of a user there is not.

    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return FolderStore(_expanded(uri))
    if scheme == "file":
        return FolderStore(Path(unquote(urlsplit(uri).path)))
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


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RecipeError(
            f"{path}: no such user's home directory",
            remedy="write the directory out, or put ./ before a name that starts with ~",
        ) from error
