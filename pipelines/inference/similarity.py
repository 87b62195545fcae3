"""`alexnet similar`: the images whose features are nearest, as figure 4 of the 2012 paper shows."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import IO, Final

import pyarrow as pa

from alexnet.inference.features import features_of, features_schema
from alexnet.inference.features_file import FeaturesFile, FeaturesHeader
from alexnet.inference.inputs import find_parts
from alexnet.inference.layer_outputs import choose_layer
from infra.errors import RecipeError
from infra.progress import tell
from infra.store import open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.answers import refuse_if_none
from pipelines.inference.nearest import Asker, Search, found_in, open_among, refuse_other_model
from pipelines.inference.output_files import TABLES, check_output_file, table_bytes, write_output
from pipelines.inference.similarity_answer import Similar, draw_similar
from pipelines.lookup.models import open_model

MOST_QUERY_BYTES: Final = 256 << 20
"""Of the features of the images asked about, which are in memory all the time."""
MOST_ANSWERS: Final = 500_000
"""Neighbours of all images together, which are in memory too."""
MOST_NEIGHBOURS: Final = 1000
"""Of one image."""
MOST_TILES: Final = 1000
"""In a picture."""


def find_similar(
    model: str,
    images: Sequence[str],
    *,
    among: str,
    count: int,
    layer: str | None,
    output: str | None,
    picture: str | None,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> Similar:
    """Find the images whose features are nearest by Euclidean distance, exactly.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it.
        images: what is asked about, as `alexnet predict` takes it.
        among: a file of features that `alexnet features` wrote; or a dataset (its training split),
            a folder or a Parquet file of images, whose features are computed and not kept.
        count: neighbours an image.
        layer: as in `alexnet.model.layer_names`; none is the last hidden one.
        output: a .parquet or .csv file to write.
        picture: a .png file to draw.
        workspace: where the model is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.

    Raises:
        RecipeError: features of another model or layer, more images than fit into memory, or no
            count of neighbours.
        InputRejected: a path that is not there, or none is an image.
        DataError: there is no such model, or something is damaged.
        ServiceError: a place, MLflow or Ray is away.
    """
    if not 1 <= count <= MOST_NEIGHBOURS:
        raise RecipeError(
            f"{count:,} neighbours an image cannot be looked for",
            remedy=f"ask for 1 to {MOST_NEIGHBOURS:,}",
        )
    _check_places(workspace, output, picture)
    parts = find_parts(images)
    num_queries = sum(part.count for part in parts)
    if picture is not None:
        _refuse_a_large_picture(num_queries, count)
    place = open_among(among)
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
    ):
        asker = Asker(uri, trained, *choose_layer(trained, layer), open_store(workspace), stream)
        _refuse_too_many(num_queries, count, asker.width)
        if place.written is not None:
            _refuse_others(place.written, asker.header)
        rejected: list[tuple[str, str]] = []
        passed_over: list[tuple[str, str]] = []
        with asker.features(parts, "features", rejected) as tables:
            queries = pa.concat_tables([features_schema(asker.width).empty_table(), *tables])
        refuse_if_none(len(queries), rejected)
        search = Search(features_of(queries), count)
        search.look_through(place, asker, passed_over)
        similar = Similar(
            header=asker.header,
            among=among,
            queries=found_in(queries),
            neighbours=search.neighbours,
            distances=search.distances,
            rejected=[*rejected, *passed_over],
        )
    # Drawn first: an interrupt while images are read again leaves no file.
    drawn = None if picture is None else draw_similar(similar, trained.stored_px)
    if output is not None:
        write_output(output, table_bytes(similar.table, output))
    if picture is not None and drawn is not None:
        write_output(picture, drawn.png)
        if drawn.num_gone:
            tell(stream, f"grey in the picture: {drawn.num_gone:,} images that are gone")
    return similar


def _check_places(workspace: str, output: str | None, picture: str | None) -> None:
    refuse_relative_in_a_job("the workspace", workspace)
    if output is not None:
        check_output_file(output, TABLES)
    if picture is not None:
        check_output_file(picture, (".png",), "--picture")


def _refuse_a_large_picture(num_queries: int, count: int) -> None:
    if num_queries * (1 + count) > MOST_TILES:
        raise RecipeError(
            f"a picture of {num_queries:,} images with {count:,} neighbours each is too large",
            remedy=f"name at most {MOST_TILES // (1 + count):,} images, or leave out --picture",
        )


def _refuse_too_many(num_queries: int, count: int, width: int) -> None:
    most = max(1, min(MOST_QUERY_BYTES // (8 * width), MOST_ANSWERS // count))
    if num_queries > most:
        raise RecipeError(
            f"{num_queries:,} images are too many to ask about at once: their features and"
            " neighbours stay in memory",
            remedy=f"name at most {most:,} at a time",
        )


def _refuse_others(written: FeaturesFile, header: FeaturesHeader) -> None:
    refuse_other_model(written, header)
    theirs = written.header
    if theirs.layer != header.layer:
        raise RecipeError(
            f"{written.uri} holds features of layer {theirs.layer}, not of {header.layer}",
            remedy=f"add --layer {theirs.layer}, or write those of {header.layer} anew",
        )
