"""MLflow's model registry: versions, tags and aliases of one registered model."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.errors import TrackingError
from infra.temporary import MAKE_ROOM, lacks_room
from infra.tracking.bounded import Answer, answer_within
from infra.tracking.mlflow_client import is_mlflows, open_mlflow_client
from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import sqlite_path, without_credentials

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
KEY_TAG: Final = "alexnet.registration_key"
CLASSES_TAG: Final = "alexnet.classes_sha256"
_REGISTRY_TAG: Final = "alexnet.registry_id"
READ_S: Final = 60.0
"""How long a server may take for an answer."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of the registered model."""

    version: str
    """As MLflow spells it: "1", "2", …"""
    tags: Mapping[str, str]
    run_id: str | None

    @property
    def classes_sha256(self) -> str | None:
        """Digest of the classes it tells apart; none in versions of before it was noted."""
        return self.tags.get(CLASSES_TAG)


class ModelRegistry:
    """The versions of one model on one MLflow server (or sqlite file).

    Every method raises TrackingError when the server cannot be reached or refuses.
    """

    def __init__(self, tracking_uri: str, name: str) -> None:
        self.tracking_uri = tracking_uri
        self.name = name
        with translated(tracking_uri):
            self._client = open_mlflow_client(tracking_uri)

    def champion(self) -> RegisteredVersion | None:
        """Return the version the alias `champion` points to, or None."""
        return self.by_alias(CHAMPION)

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version an alias points to, or None."""

        def ask() -> RegisteredVersion | None:
            for model in self._client.search_registered_models(f"name = '{self.name}'"):
                if alias in model.aliases:
                    return _described(self._client.get_model_version_by_alias(self.name, alias))
            return None

        return self._answer(ask)

    def by_version(self, version: str) -> RegisteredVersion | None:
        """Return a version by its number, or None."""
        found = self._answer(self._versions)
        return next((_described(v) for v in found if str(v.version) == version), None)

    def aliases(self, version: str) -> tuple[str, ...]:
        """Return the aliases of a version, sorted."""
        found = self._answer(lambda: self._client.get_model_version(self.name, version))
        return tuple(sorted(found.aliases))

    def find(self, key: str) -> RegisteredVersion | None:
        """Find the version that a registration made, by its key."""
        versions = self._answer(self._versions)
        made = [version for version in versions if version.tags.get(KEY_TAG) == key]
        return _described(min(made, key=lambda version: int(version.version))) if made else None

    def create(
        self, *, key: str, model_id: str, run_id: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Make a version of a logged model."""
        # A sqlite registry looks its logged models up at the global URI.
        with translated(self.tracking_uri), global_tracking(self.tracking_uri):
            self._ensure_model()
            made = self._client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags={**tags, KEY_TAG: key},
            )
        return _described(made)

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set a version's tags, keeping others."""
        with translated(self.tracking_uri):
            for name, value in tags.items():
                self._client.set_model_version_tag(self.name, version, name, value)

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias to a version, and read it back: the last writer wins in MLflow."""
        with translated(self.tracking_uri):
            self._client.set_registered_model_alias(self.name, alias, version)
        found = self.by_alias(alias)
        if found is None or found.version != version:
            raise TrackingError(
                f"alias {alias} of {self.name} was set to version {version} and reads "
                f"{found.version if found else 'nothing'}",
                remedy="someone else registers the same model at this moment: run again",
            )

    def registry_id(self) -> str:
        """Tell this registry from any other, wherever it is moved: a tag made with the model."""
        with translated(self.tracking_uri):
            self._ensure_model()
            tags: Mapping[str, str] = self._client.get_registered_model(self.name).tags
        return tags.get(_REGISTRY_TAG, "")

    def download(self, version: str, folder: Path) -> Path:
        """Download a version's files; return the directory that `open_package` reads."""
        with translated(self.tracking_uri), global_tracking(self.tracking_uri):
            uri = self._client.get_model_version_download_uri(self.name, version)
            root = import_mlflow().artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(folder)
            )
        return Path(root) / "artifacts"

    def has_file(self, version: str, name: str) -> bool:
        """Tell whether a version has a file of `write_package`; not if another program made it."""
        with translated(self.tracking_uri), global_tracking(self.tracking_uri):
            found = import_mlflow().artifacts.list_artifacts(
                artifact_uri=f"models:/{self.name}/{version}/artifacts"
            )
        return any(info.path.rpartition("/")[2] == name for info in found)

    def _versions(self) -> list[Any]:
        return list(self._client.search_model_versions(f"name = '{self.name}'"))

    def _answer(self, ask: Callable[[], Answer]) -> Answer:
        """Ask what changes nothing, and wait for a server no longer than READ_S."""
        with translated(self.tracking_uri):
            if sqlite_path(self.tracking_uri) is not None:
                return ask()
            return answer_within(READ_S, ask)

    def _ensure_model(self) -> None:
        try:
            self._client.create_registered_model(
                self.name, tags={_REGISTRY_TAG: secrets.token_hex(8)}
            )
        except import_mlflow().exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


@contextmanager
def translated(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow raises into TrackingError; the URI is named without its credentials."""
    try:
        yield
    except Exception as error:
        if not is_mlflows(error):
            raise
        raise TrackingError(
            without_credentials(f"MLflow at {tracking_uri} failed: {error}"),
            remedy=MAKE_ROOM
            if lacks_room(error)
            else "check that the server runs and takes your credentials, and that its artifact"
            " store can be had from here, then run again",
        ) from error


@contextmanager
def global_tracking(tracking_uri: str) -> Iterator[None]:
    """Set MLflow's process-wide URI, which some of its functions use alone, and restore it."""
    mlflow = import_mlflow()
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _described(version: Any) -> RegisteredVersion:  # noqa: ANN401 - MLflow ships no types
    return RegisteredVersion(
        version=str(version.version),
        tags=dict(version.tags),
        run_id=version.run_id or None,
    )
