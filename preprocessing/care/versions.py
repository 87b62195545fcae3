"""Other library versions than a dataset was made with: what they may change, and what we say."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from infra.canonical import digest_of
from infra.commit import Frozen, read_receipt
from infra.errors import ProjectError, StoreError
from infra.store import FolderStore
from infra.temporary import temporary_folder
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.building.versions import differing_versions, encoder_versions
from preprocessing.dataset.manifest import Manifest

log = logging.getLogger(__name__)


class Comparison(Frozen):
    """What one shard came to, rendered again by other versions than it was made with."""

    path: str
    same_bytes: bool
    same_pixels: bool
    """Before encoding."""

    @property
    def text(self) -> str:
        """Say it."""
        pixels = "agree" if self.same_pixels else "differ too"
        found = "its bytes agree" if self.same_bytes else f"bytes differ, pixels {pixels}"
        return f"of {self.path}, rendered now, {found}"


def warn_of_other_versions(
    job: RenderJob, manifest: Manifest, plan: Callable[[], Sequence[PlannedShard]]
) -> None:
    """Warn where a committed dataset was made by other versions, and say whether that matters here.

    One shard is rendered to know; what came of it is kept in `_build/` for these versions.

    Args:
        job: its target is the dataset's folder.
        plan: plans what the dataset was made by.
    """
    here = encoder_versions()
    if here == manifest.made_with:
        return
    try:
        found = _kept_or_compared(job, manifest, plan).text
    except ProjectError as error:  # the dataset can be used all the same
        found = f"a shard rendered now may have other bytes ({error.problem})"
    log.warning(
        "dataset_made_with_other_versions uri=%s: it is used as it is; %s: %s",
        job.target.uri,
        found,
        versions_text(manifest.made_with, here),
    )


def _kept_or_compared(
    job: RenderJob, manifest: Manifest, plan: Callable[[], Sequence[PlannedShard]]
) -> Comparison:
    path = f"_build/compared-{digest_of(encoder_versions())[:16]}.json"
    kept = read_receipt(job.target, path)
    if kept is not None:
        try:
            return Comparison.model_validate_json(kept)
        except ValidationError:
            log.warning("comparison_not_understood uri=%s/%s", job.target.uri, path)
    found = _compare(job, manifest, plan())
    try:
        job.target.write(path, found.model_dump_json().encode())
    except StoreError as error:  # another's folder, which may be read only
        log.warning(
            "comparison_not_noted uri=%s: it will be made again: %s", job.target.uri, error.problem
        )
    return found


def _compare(job: RenderJob, manifest: Manifest, plan: Sequence[PlannedShard]) -> Comparison:
    """Render the smallest shard again, aside."""
    planned = min(plan, key=lambda shard: len(shard.members))
    shards = {shard.path: shard for shard in manifest.shards}
    log.info("shard_rendered_to_compare_versions uri=%s path=%s", job.target.uri, planned.path)
    with temporary_folder("alexnet-") as folder:
        now = render_shard(replace(job, target=FolderStore(folder)), planned).shard
    before = shards[planned.path]
    return Comparison(
        path=planned.path,
        same_bytes=now.sha256 == before.sha256,
        same_pixels=now.pixels_xxh3 == before.pixels_xxh3,
    )


def versions_text(made_with: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Name the libraries that differ. Pure."""
    if differing := differing_versions(made_with, here):
        return f"it was made with {differing}"
    return "the libraries have the versions it was made with"
