"""`alexnet features`: what a layer of a network makes of images, as a Parquet file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from alexnet.inference.features import FeatureSpec
from alexnet.inference.features_file import FeaturesHeader, features_writer
from alexnet.inference.inputs import find_parts, split_called
from alexnet.inference.layer_outputs import choose_layer
from alexnet.trained import TrainedNetwork
from infra.progress import StatusLine
from infra.store import open_parent, open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.answers import answered, refuse_if_none
from pipelines.inference.output_files import check_output_file
from pipelines.lookup.models import open_model


@dataclass(frozen=True, slots=True)
class Features:
    """What was written."""

    header: FeaturesHeader
    output: str
    count: int
    rejected: Sequence[tuple[str, str]]
    """Path and reason of what is no image."""

    def fields(self) -> dict[str, Any]:
        """Describe it as `features --json` does."""
        return {
            "model": self.header.model,
            "global_step": self.header.step,
            "layer": self.header.layer,
            "width": self.header.width,
            "output": self.output,
            "count": self.count,
            "num_rejected": len(self.rejected),
            "rejected": [{"path": path, "reason": reason} for path, reason in self.rejected],
        }


def extract_features(
    model: str,
    images: Sequence[str],
    *,
    output: str,
    layer: str | None,
    split: str,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> Features:
    """Write a layer's activations for images, an image a row; what is no image is left out.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it.
        images: files, folders, Parquet files, datasets; paths or URIs.
        output: a .parquet file to write, a path or a URI.
        layer: as in `alexnet.model.layer_names`; none is the last hidden one.
        split: of a dataset, train or val.
        workspace: where the model is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.

    Raises:
        RecipeError: another suffix, or there is no such layer or split.
        InputRejected: a path that is not there, or none is an image.
        DataError: there is no such model, or it is damaged.
        ServiceError: a place, MLflow or Ray is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    check_output_file(output, (".parquet",))
    parts = find_parts(images, split_called(split))
    rejected: list[tuple[str, str]] = []
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
    ):
        layer, width = choose_layer(trained, layer)
        header = describe_features(uri, trained, layer, width)
        spec, progress = FeatureSpec(layer, width), StatusLine("features", stream)
        with (
            answered(uri, trained, parts, spec, open_store(workspace), progress, stream) as answers,
            features_writer(*open_parent(output), header) as writer,
        ):
            for table in without_rejects(answers, rejected):
                writer.add(table)
            refuse_if_none(writer.num_rows, rejected)
    return Features(header, output, writer.num_rows, rejected)


def describe_features(uri: str, trained: TrainedNetwork, layer: str, width: int) -> FeaturesHeader:
    """Say whose features these are."""
    return FeaturesHeader(
        model=uri,
        model_digest=trained.digest,
        network=trained.network.name,
        step=trained.step,
        layer=layer,
        width=width,
    )


def without_rejects(
    answers: Iterable[pa.Table], rejected: list[tuple[str, str]]
) -> Iterator[pa.Table]:
    """Yield the rows that have features, without `reason`; note the others in the list."""
    for table in answers:
        good = pc.is_null(table["reason"])
        bad = table.filter(pc.invert(good))
        rejected += zip(bad["path"].to_pylist(), bad["reason"].to_pylist(), strict=True)
        yield table.filter(good).drop_columns("reason")
