"""`alexnet export`: a trained network as plain files, safetensors and JSON, that need no MLflow."""

from contextlib import redirect_stdout
from typing import IO, Any, Final

import numpy as np
import torch

from alexnet.evaluate.scores import score
from alexnet.release.package import FILES, MODEL, open_package, write_package
from alexnet.threads import one_thread
from alexnet.trained import TrainedNetwork
from infra.commit import describe_object, read_receipt
from infra.errors import ObjectCorrupt, RecipeError
from infra.store import FolderStore, ObjectStore, open_store
from infra.temporary import temporary_folder
from pipelines.context import refuse_relative_in_a_job
from pipelines.inference.output_files import check_output_folder
from pipelines.lookup.models import open_model

NUM_IMAGES: Final = 4
"""Of noise, for which the network must answer as before."""


def export_model(
    model: str, output: str, *, workspace: str, tracking_uri: str | None, stream: IO[str]
) -> dict[str, Any]:
    """Write a network and all it needs into a folder, and hold its answers against the original's.

    Args:
        model: as `pipelines.lookup.models.open_model` takes it, which takes the folder too.
        output: the folder, a path or a URI.
        workspace: where the model is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets what libraries print.

    Returns:
        What `export --json` prints.

    Raises:
        RecipeError: the folder holds another model.
        DataError: there is no such model, or it is damaged.
        ObjectCorrupt: what was written does not answer as the model does.
        ServiceError: a place or MLflow is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    check_output_folder(output)
    target = open_store(output)
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
        temporary_folder("alexnet-export-") as folder,
    ):
        write_package(trained, folder)
        bodies = {name: FolderStore(folder).read(name) for name in FILES}
        _refuse_another_model(target, bodies[MODEL])
        for name in reversed(FILES):  # the one that names the others comes last
            target.write(name, bodies[name])
        written = open_package(target)
        if _scores(written) != _scores(trained):
            raise ObjectCorrupt(
                f"the model in {target.uri} does not answer as {uri} does, bit for bit",
                remedy="report this, with the names of both",
            )
    return {
        "model": uri,
        "global_step": written.step,
        "network": written.network.model_dump(mode="json"),
        "crop_px": written.augment.crop_px,
        "num_classes": len(written.load_classes()),
        "output": target.uri,
        "files": [describe_object(name, bodies[name]).model_dump() for name in FILES],
    }


def _refuse_another_model(target: ObjectStore, body: bytes) -> None:
    held = read_receipt(target, MODEL)
    if held is not None and held != body:
        raise RecipeError(
            f"{target.uri} holds another model", remedy="name another folder, or delete it first"
        )


def _scores(trained: TrainedNetwork) -> bytes:
    """Log-probabilities of every class for images of noise, as bytes: NaNs are compared too."""
    shape = (NUM_IMAGES, trained.stored_px, trained.stored_px, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with one_thread():
        scores = score(
            trained.load_model(),
            trained.load_augment(),
            torch.from_numpy(noise),
            trained.augment.crop_px,
            "center",
        )
    return scores.numpy().tobytes()
