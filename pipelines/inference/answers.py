"""A model is asked about images: in this process about a few, over Ray about many."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import IO, Final

import pyarrow as pa

from alexnet.inference.errors import InputRejected
from alexnet.inference.input_parts import InputPart
from alexnet.inference.spec import InferenceSpec
from alexnet.release.package import copy_package, open_package
from alexnet.trained import TrainedNetwork
from infra.nodes import check_nodes_see, check_nodes_share
from infra.progress import StatusLine, tell
from infra.ray_runtime import LOCAL, cluster_address
from infra.ray_session import ray_session
from infra.store import ObjectStore
from pipelines.lookup.inspection import MODELS

MANY: Final = 1024
"""Views from which on Ray is started. That takes ten seconds on two cores, and saves half of the 20
ms that a view takes one core with the network of 2012: at a thousand views it breaks even."""
_TOLD: Final = 5
"""Of files that are no images, when none is one."""
NAME_IMAGES: Final = (
    "name JPEG, PNG, GIF, BMP, WebP, TIFF or PPM files, or folders, Parquet or datasets of them"
)


@contextmanager
def answered(
    uri: str,
    trained: TrainedNetwork,
    parts: Sequence[InputPart],
    spec: InferenceSpec,
    workspace: ObjectStore,
    progress: StatusLine,
    stream: IO[str],
) -> Iterator[Iterator[pa.Table]]:
    """Give the block tables of answers, a block of images each, in order, as they come.

    Args:
        uri: the model's.
        trained: the model.
        parts: what it is asked about.
        spec: what is computed.
        workspace: where the workers of a cluster find a downloaded model.
        progress: shows how far it is.
        stream: gets what else there is to say.

    Raises:
        DataError: the network gives no numbers.
        ServiceError: a place or Ray is away.
    """
    total, done = sum(part.count for part in parts), 0

    def counted(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        nonlocal done
        for table in tables:
            yield table
            done += len(table)
            progress(done, total)

    try:
        with _tables(uri, trained, parts, spec, workspace, stream) as tables:
            yield counted(tables)
    finally:
        progress.close()


def refuse_if_none(count: int, rejected: Sequence[tuple[str, str]]) -> None:
    """Raise InputRejected if no image was among what was named.

    Args:
        count: of images.
        rejected: path and reason of what is none.
    """
    if count:
        return
    if len(rejected) == 1:
        path, reason = rejected[0]
        raise InputRejected(f"{path} is no image: {reason}", remedy=NAME_IMAGES)
    told = [f"{path} ({reason})" for path, reason in rejected[:_TOLD]]
    more = f" and {len(rejected) - _TOLD:,} more" if len(rejected) > _TOLD else ""
    raise InputRejected(
        f"none of {len(rejected):,} files is an image: {', '.join(told)}{more}"
        if told
        else "there are no images in what was named",
        remedy=NAME_IMAGES,
    )


@contextmanager
def _tables(
    uri: str,
    trained: TrainedNetwork,
    parts: Sequence[InputPart],
    spec: InferenceSpec,
    workspace: ObjectStore,
    stream: IO[str],
) -> Iterator[Iterator[pa.Table]]:
    if sum(part.count for part in parts) * spec.num_views < MANY:
        num_threads = max(1, (os.cpu_count() or 1) - 1)
        yield spec.runner(trained, num_threads=num_threads).run(parts)
        return
    from alexnet.inference.answer_many import answer_many

    address = cluster_address()
    tell(stream, "starting Ray" if address == LOCAL else f"joining Ray at {address}")
    with ray_session():
        if address != LOCAL:
            trained = seen_by_all_nodes(uri, trained, workspace)
            _check_nodes_see(trained, parts)
        # Ray Data's thread must end before Ray does: the traceback of a reader's error would keep
        # what it has half read, and the thread with it.
        with closing(answer_many(trained, parts, spec)) as tables:
            yield tables


def seen_by_all_nodes(uri: str, trained: TrainedNetwork, workspace: ObjectStore) -> TrainedNetwork:
    """Put a downloaded model where the workers of all nodes see it; Ray must be up.

    Raises:
        StoreError: a node does not see the workspace.
    """
    if not uri.startswith(MODELS):
        return trained
    check_nodes_share(workspace)
    return open_package(copy_package(trained.weights.store, workspace.child("models")))


def _check_nodes_see(trained: TrainedNetwork, parts: Sequence[InputPart]) -> None:
    check_nodes_see(trained.weights.store, trained.weights.item.path)
    firsts = {part.store.uri: part for part in reversed(parts) if not part.refused}
    for part in firsts.values():
        check_nodes_see(part.store, part.key)
