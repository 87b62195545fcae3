"""`alexnet prepare --estimate`: what a build will take, before it is begun."""

from dataclasses import asdict
from typing import Any

from infra.store import open_store
from pipelines.recipe import Recipe
from preprocessing.building.estimate import estimate_build
from preprocessing.sources.source import read_index


def estimate_dataset(recipe: Recipe, *, workspace: str) -> dict[str, Any]:
    """Index a recipe's images, render some of them, and say what all would take.

    Indexes, archives that are drawn, and images that have to be unpacked to be indexed (CIFAR,
    Hugging Face) are kept in the workspace; nothing else is written.

    Raises:
        DataError: the images cannot be found or read.
    """
    index = read_index(recipe.dataset, recipe.prepare, open_store(workspace))
    fields = asdict(estimate_build(index, recipe.prepare))
    fields["core_hours"] = round(fields["core_hours"], 4)
    return fields
