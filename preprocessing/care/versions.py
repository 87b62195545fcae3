"""Other library versions than a dataset was made with: what they may change, and what we say."""

import logging
from collections.abc import Mapping

from preprocessing.building.render import encoder_versions
from preprocessing.dataset.manifest import Manifest

log = logging.getLogger(__name__)


def warn_of_other_versions(uri: str, manifest: Manifest) -> None:
    """Warn that shards rendered now may have other bytes than a committed dataset's."""
    if encoder_versions() != manifest.made_with:
        log.warning(
            "dataset_made_with_other_versions uri=%s: it is used as it is; a shard rendered now may"
            " have other bytes: %s",
            uri,
            versions_text(manifest.made_with, encoder_versions()),
        )


def versions_text(made_with: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Name the libraries that differ. Pure."""
    other = [
        f"{name} {made_with.get(name, 'unknown')}, here {here.get(name, 'none')}"
        for name in sorted({*here, *made_with})
        if here.get(name) != made_with.get(name)
    ]
    if not other:
        return "the libraries have the versions it was made with"
    return f"it was made with {'; '.join(other)}"
