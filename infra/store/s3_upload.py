"""A large object on its way to S3: parts are sent while the next ones are written."""

import base64
import hashlib
import io
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from infra.errors import StoreError
from infra.retry import RetryPolicy
from infra.store.s3_client import WRITER, Client, call_s3, writer_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Result = TypeVar("Result")

PART_BYTES: Final = 16 << 20
"""S3 takes 10,000 parts: 160 GB. What one upload holds in memory is a few of them."""
_PARTS_IN_FLIGHT: Final = 3
_ABORT_S: Final = 5.0


class MultipartUpload(io.RawIOBase):
    """Takes bytes, sends them in parts; the object exists when `complete` returns.

    What a killed process leaves is invisible to readers and listings, but kept and billed until it
    is aborted: give the bucket a rule that aborts incomplete uploads after two days.
    """

    def __init__(self, bucket: str, name: str, place: str, policy: RetryPolicy) -> None:
        super().__init__()
        self._target = {"Bucket": bucket, "Key": name}
        self._place, self._policy = place, policy
        self._token = secrets.token_hex(8)
        self._pending = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._in_flight: deque[Future[dict[str, Any]]] = deque()
        self._threads = ThreadPoolExecutor(max_workers=_PARTS_IN_FLIGHT)
        self._num_parts = 0
        self._aborted = False

    @property
    def is_begun(self) -> bool:
        """Whether there was more than one part's worth, so that parts were sent."""
        return self._upload_id is not None

    @property
    def pending(self) -> bytes:
        """What was written and not sent: all of a small object."""
        return bytes(self._pending)

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, body: "ReadableBuffer") -> int:
        """Take bytes; returns when at most a few parts wait to be sent."""
        view = memoryview(body).cast("B")
        for start in range(0, len(view), PART_BYTES):
            self._pending += view[start : start + PART_BYTES]
            if len(self._pending) > PART_BYTES:
                self._send(bytes(self._pending[:PART_BYTES]))
                del self._pending[:PART_BYTES]
        return len(view)

    def complete(self) -> None:
        """Send what is left and put the parts together.

        Raises:
            StoreError: the store refuses, or stayed away.
        """
        if self._pending:
            self._send(bytes(self._pending))
        while self._in_flight:
            self._parts.append(self._in_flight.popleft().result())
        self._threads.shutdown()
        self._call("complete", self._put_together)

    def abort(self) -> None:
        """Have the store forget what was sent; it may be away, so this is no promise."""
        # Not waited for, but told: with the store away their tries would go on for minutes.
        self._aborted = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._upload_id is None:
            return
        target = {**self._target, "UploadId": self._upload_id}
        with suppress(StoreError, FileNotFoundError):
            call_s3(
                lambda client: client.abort_multipart_upload(**target),
                what="abort",
                place=self._place,
                policy=RetryPolicy(deadline_s=_ABORT_S),
            )

    def _send(self, part: bytes) -> None:
        if self._upload_id is None:
            self._upload_id = self._call("begin", self._begin)
        self._num_parts += 1
        if len(self._in_flight) == _PARTS_IN_FLIGHT:
            self._parts.append(self._in_flight.popleft().result())
        self._in_flight.append(self._threads.submit(self._send_part, self._num_parts, part))

    def _begin(self, client: Client) -> str:
        metadata = {WRITER: self._token}
        upload_id: str = client.create_multipart_upload(**self._target, Metadata=metadata)[
            "UploadId"
        ]
        return upload_id

    def _send_part(self, number: int, part: bytes) -> dict[str, Any]:
        request = {**self._target, "UploadId": self._upload_id, "PartNumber": number}
        digest = content_md5(part)

        def send(client: Client) -> Any:  # noqa: ANN401 - S3's answer
            if self._aborted:
                raise CancelledError
            return client.upload_part(**request, Body=part, ContentMD5=digest)

        return {"PartNumber": number, "ETag": self._call(f"send part {number}", send)["ETag"]}

    def _put_together(self, client: Client) -> None:
        try:
            client.complete_multipart_upload(
                **self._target, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        except (ClientError, BotoCoreError):
            # The answer to an earlier try may have been lost: then the object is there, and ours.
            if writer_of(client, self._target) != self._token:
                raise

    def _call(self, what: str, work: Callable[[Client], Result]) -> Result:
        what = f"{what} of {self._target['Key']}"
        return call_s3(work, what=what, place=self._place, policy=self._policy)


def content_md5(body: bytes) -> str:
    """Return the header by which a store checks what arrived."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
