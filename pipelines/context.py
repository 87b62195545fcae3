"""What every step needs of the outside world, built once: workspace, tracking, Ray, progress."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from infra.errors import RecipeError, StoreError
from infra.nodes import check_nodes_share
from infra.progress import NotedReport, StatusLine, tell
from infra.ray_runtime import LOCAL, Resources, cluster_address, is_submitted_job
from infra.ray_session import ray_session
from infra.store import ObjectStore, open_store
from infra.store.check import open_workspace
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.rehome import rehome_artifacts
from pipelines.recipe import Recipe
from pipelines.timeline import Timeline

if TYPE_CHECKING:
    from alexnet.release.registry import ModelRegistry

FIRST_CONTACT_S: Final = 15.0
"""How long a store may stay away when a command starts; later it may for minutes."""


@dataclass
class Context:
    """One command's view of the world; close it at the end."""

    recipe: Recipe
    workspace: ObjectStore
    tracking: TrackingPlace
    stream: IO[str] = field(default_factory=lambda: sys.stderr)
    timeline: Timeline = field(default_factory=Timeline)
    _resources: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def cluster(self) -> Resources:
        """Start or join Ray when first asked for; it ends with the context.

        Raises:
            ServiceError: the cluster cannot be joined, or a node of it cannot do its part.
        """
        address = cluster_address()
        self.say("starting Ray" if address == LOCAL else f"joining Ray at {address}")
        resources = self._resources.enter_context(ray_session())
        if address != LOCAL:
            # Its nodes have other disks, credentials and programs than this process.
            check_nodes_share(self.workspace)
        return resources

    def start_cluster(self) -> None:
        """Have Ray run: what follows computes on it. Raises as `cluster`."""
        _ = self.cluster

    @cached_property
    def tracker(self) -> MlflowTracker:
        """Where the recipe's runs are shown; asks nothing yet."""
        return MlflowTracker(self.tracking, experiment=self.recipe.tracking.experiment)

    @cached_property
    def registry(self) -> "ModelRegistry":
        """The versions of the recipe's model.

        Raises:
            TrackingError: MLflow's database cannot be opened.
        """
        from alexnet.release.registry import ModelRegistry

        return ModelRegistry(self.tracking.uri, self.recipe.registration.model_name)

    @contextmanager
    def progress(self, stage: str) -> Iterator[NotedReport]:
        """Show a stage's progress while the block runs."""
        line = StatusLine(stage, self.stream)
        try:
            yield line
        finally:
            line.close()

    def say(self, text: str) -> None:
        """Write one plain line for whoever watches, in place of a terminal's status line."""
        tell(self.stream, f"\r\x1b[K{text}" if self.stream.isatty() else text)

    def close(self) -> None:
        """Let go of Ray and all else."""
        self._resources.close()


def open_context(
    recipe: Recipe, *, workspace: str, tracking_uri: str | None, command: str, stream: IO[str]
) -> Context:
    """Open the workspace and decide where runs are tracked.

    Args:
        recipe: resolved.
        workspace: a directory or URI.
        tracking_uri: MLflow server, if not a file in the workspace.
        command: what is noted of the command, without secrets.
        stream: gets the progress.

    Raises:
        StoreError: the workspace cannot be written, or its store would lose commits.
        RecipeError: the two do not go together, or RAY_ADDRESS names no cluster to join.
    """
    cluster_address()  # only to refuse a wrong one before anything is written
    refuse_relative_in_a_job("the workspace", workspace)
    if tracking_uri is not None and tracking_uri.startswith("sqlite:///"):
        refuse_relative_in_a_job("the tracking URI", tracking_uri.removeprefix("sqlite:///"))
    store = open_store(workspace)
    tracking = place_for(store, tracking_uri)
    try:
        open_workspace(store.with_deadline(FIRST_CONTACT_S))
    except StoreError as error:
        raise StoreError(
            f"the workspace {store.uri} cannot be used: {error.problem}",
            remedy=f"{error.remedy}; or name another with --workspace or $ALEXNET_WORKSPACE",
        ) from error
    if tracking_uri is None and tracking.artifact_location is not None:
        # It may be a copy, whose MLflow still names the place of the original.
        rehome_artifacts(Path(store.uri) / "mlflow.db", tracking.artifact_location)
    return Context(recipe, store, tracking, stream, Timeline(command))


def refuse_relative_in_a_job(what: str, path: str) -> None:
    """Refuse a relative path in a command that was submitted to a cluster.

    Raises:
        RecipeError: names what the path is of, and what to write instead.
    """
    relative = "://" not in path and not Path(path).expanduser().is_absolute()
    if relative and is_submitted_job():
        raise RecipeError(
            f"{what} {path!r} is relative: in a job it would lie in the copy of your code, which"
            " Ray deletes",
            remedy="name an absolute directory that all nodes share, or s3://bucket/prefix",
        )
