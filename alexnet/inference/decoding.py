"""Parts → blocks of 64 decoded images, in order; one block is decoded ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

from alexnet.evaluate.scores import SCORE_BATCH_ROWS
from alexnet.inference.errors import InputRejected
from alexnet.inference.input_parts import ImageFile, InputPart, read_file, stream_parts
from alexnet.inference.inputs import find_parts
from infra.store import is_remote
from infra.thread_pool import thread_pool
from preprocessing.dataset.pixels import Pixels, decode_square
from preprocessing.errors import ImageRejected

_REQUESTS_AT_ONCE: Final = 16


class DecodedImage(NamedTuple):
    """One image's pixels, or the reason why there are none."""

    image: ImageFile
    """Without its bytes."""
    pixels: Pixels | None


def decoded_blocks(
    parts: Iterable[InputPart], decode: Callable[[bytes], Pixels], *, num_threads: int
) -> Iterator[list[DecodedImage]]:
    """Read and decode; what is no image keeps its place.

    Args:
        parts: what is read, in order.
        decode: raises ImageRejected.
        num_threads: that read and decode; more where each read is a request.

    Raises:
        StoreError: a remote place stayed away.
    """
    parts = list(parts)
    waits = any(is_remote(part.store) for part in parts)
    images = stream_parts(parts)
    with thread_pool(_REQUESTS_AT_ONCE if waits else num_threads) as threads:

        def begin_block() -> list[Future[DecodedImage]]:
            block = islice(images, SCORE_BATCH_ROWS)
            return [threads.submit(read_image, image, decode) for image in block]

        block = begin_block()
        while block:
            following = begin_block()
            yield [image.result() for image in block]
            block = following


def read_image(image: ImageFile | InputPart, decode: Callable[[bytes], Pixels]) -> DecodedImage:
    """Read one image, if it is not read yet, and decode it; or say why it is none.

    Args:
        image: as `stream_parts` has it.
        decode: raises ImageRejected.

    Raises:
        StoreError: a remote place stayed away.
    """
    file = read_file(image) if isinstance(image, InputPart) else image
    kept = file._replace(body=b"")
    if file.reason:
        return DecodedImage(kept, None)
    try:
        return DecodedImage(kept, decode(file.body))
    except ImageRejected as error:
        return DecodedImage(kept._replace(reason=str(error)), None)


def read_again(uri: str, row: int | None, side_px: int) -> Pixels | None:
    """Return the central square of an image that was read before, or None if it is gone.

    Args:
        uri: of its file.
        row: in that file, if it is Parquet.
        side_px: of the square.

    Raises:
        StoreError: a remote place stayed away.
    """
    try:
        part = find_parts([uri])[0]
    except InputRejected:
        return None
    if row is not None:
        part = replace(part, rows=(row, row + 1))

    def decode(body: bytes) -> Pixels:
        return decode_square(body, side_px)

    images = [image for block in decoded_blocks([part], decode, num_threads=1) for image in block]
    return images[0].pixels if len(images) == 1 else None
