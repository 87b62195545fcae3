"""Objects in a bucket of S3 or of a store that speaks it, below a prefix.

Two promises are not in the protocol's words, so `alexnet storage check` proves them: a PUT with
`If-None-Match: *` has one winner, and a list shows what was written.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import IO, Any, Final, TypeVar

import pyarrow as pa
from botocore.exceptions import ClientError

from infra.errors import RecipeError
from infra.retry import RetryPolicy
from infra.store.base import ObjectInfo
from infra.store.range_file import RangeFile
from infra.store.s3_client import WRITER, Client, call_s3, get_object, look, writer_of
from infra.store.s3_errors import S3_ERRORS, error_code, is_transient
from infra.store.s3_upload import PART_BYTES, MultipartUpload, content_md5

Result = TypeVar("Result")

_CHUNK_BYTES: Final = 1 << 20
_TAKEN: Final = ("412", "PreconditionFailed")


@dataclass(frozen=True, slots=True)
class S3Store:
    """Objects below `s3://bucket/prefix`. Plain data: it crosses processes.

    Calls that fail for a passing reason are tried again, for five minutes unless told otherwise.
    """

    bucket: str
    prefix: str = ""
    """Without a slash at either end."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, without a slash at the end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def child(self, prefix: str) -> "S3Store":
        """Return the store of the keys below a prefix."""
        return replace(self, prefix=self._full(prefix).strip("/"))

    def with_deadline(self, deadline_s: float) -> "S3Store":
        """Return the same place with less, or more, patience."""
        return replace(self, policy=RetryPolicy(deadline_s=deadline_s))

    def read(self, key: str) -> bytes:
        """Return a whole object; what broke off is read on from there."""
        reading = _ResumedRead(self.bucket, self._full(key))
        # Each call ends with more of it, so a long object has the deadline for each piece.
        while not self._call(f"read {key}", reading.go_on):
            pass
        return reading.body()

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start to stop."""
        if stop <= start:
            return b""
        request = {"Bucket": self.bucket, "Key": self._full(key)}
        request["Range"] = f"bytes={start}-{stop - 1}"

        def get_range(client: Client) -> bytes:
            answer = get_object(client, **request)
            return b"" if answer is None else answer["Body"].read()

        return self._call(f"read {key}", get_range)

    def open_input(self, key: str) -> pa.NativeFile:
        """Open an object for random reads, a request each."""
        info = self.stat(key)
        if info is None:
            raise FileNotFoundError(f"{self.uri}/{key}")
        return pa.PythonFile(RangeFile(self, key, 0, info.size_bytes), mode="r")

    def write(self, key: str, body: bytes) -> None:
        """Put an object: in one piece, or in parts when it is large."""
        if len(body) > PART_BYTES:
            with self.open_output(key) as file:
                file.write(body)
        else:
            request = _put_request(self.bucket, self._full(key), body)
            self._call(f"write {key}", lambda client: client.put_object(**request))

    @contextmanager
    def open_output(self, key: str) -> Iterator[IO[bytes]]:
        """Send an object in parts as it is written; memory holds a few of them."""
        upload = MultipartUpload(self.bucket, self._full(key), self.uri, self.policy)
        try:
            yield upload  # type: ignore[misc]  # of IO it is what a writer needs
            if upload.is_begun:
                upload.complete()
        except BaseException:
            upload.abort()
            raise
        if not upload.is_begun:
            self.write(key, upload.pending)

    def create(self, key: str, body: bytes) -> bool:
        """Put an object if there is none: `If-None-Match: *` decides.

        An answer can get lost, and the next try then meets our own object. So the token that goes
        along is read back whenever the store does not say plainly that we were first.
        """
        attempt = _Creation(self.bucket, self._full(key), body)
        return self._call(f"create {key}", attempt.go_on)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List objects below a prefix, in key order, a thousand a request."""
        start = self._full("") + prefix
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": start}
        while True:
            answer = self._call(f"list {prefix!r}", lambda c: c.list_objects_v2(**request))
            for item in answer.get("Contents", ()):
                if not item["Key"].endswith("/"):  # the folders that consoles make
                    yield self._info(item["Key"], item["Size"], item)
            if not answer.get("IsTruncated"):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def stat(self, key: str) -> ObjectInfo | None:
        """Describe one object."""
        target = {"Bucket": self.bucket, "Key": self._full(key)}
        try:
            found = self._call(f"look at {key}", lambda client: look(client, target))
        except FileNotFoundError:
            return None
        return self._info(target["Key"], found["ContentLength"], found)

    def delete(self, key: str) -> None:
        """Remove an object."""
        name = self._full(key)
        self._call(f"delete {key}", lambda c: c.delete_object(Bucket=self.bucket, Key=name))

    def _full(self, key: str) -> str:
        if key.startswith("/") or ".." in PurePosixPath(key).parts:
            raise ValueError(f"not a key below the store: {key!r}")
        return f"{self.prefix}/{key}" if self.prefix else key

    def _call(self, what: str, work: Callable[[Client], Result]) -> Result:
        return call_s3(work, what=what, place=self.uri, policy=self.policy)

    def _info(self, name: str, size_bytes: int, answer: Mapping[str, Any]) -> ObjectInfo:
        key, written_s = name.removeprefix(self._full("")), answer["LastModified"].timestamp()
        return ObjectInfo(key, size_bytes, answer["ETag"].strip('"'), written_s)


def parse_s3_uri(uri: str) -> S3Store:
    """Open `s3://bucket/prefix`; nothing is asked of the store yet.

    Raises:
        RecipeError: there is no bucket in it.
    """
    bucket, _, prefix = uri.removeprefix("s3://").removesuffix("/").partition("/")
    if not bucket or (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
        raise RecipeError(f"{uri} names no place in S3", remedy="write s3://BUCKET/PREFIX")
    return S3Store(bucket, prefix)


class _Creation:
    """A conditional PUT, tried until it is known who made the object."""

    def __init__(self, bucket: str, name: str, body: bytes) -> None:
        self._target = {"Bucket": bucket, "Key": name}
        self._token = secrets.token_hex(8)
        self._request = _put_request(bucket, name, body) | {
            "IfNoneMatch": "*",
            "Metadata": {WRITER: self._token},
        }
        self._tried = False

    def go_on(self, client: Client) -> bool:
        if self._tried and (writer := writer_of(client, self._target)) is not None:
            return writer == self._token
        self._tried = True
        try:
            client.put_object(**self._request)
        except ClientError as error:
            if error_code(error) not in _TAKEN:
                raise
            return writer_of(client, self._target) == self._token
        return True


class _ResumedRead:
    """A GET that goes on where the last one broke off."""

    def __init__(self, bucket: str, name: str) -> None:
        self._request = {"Bucket": bucket, "Key": name}
        self._read = bytearray()
        self._etag: str | None = None

    def body(self) -> bytes:
        """Return what was read."""
        return bytes(self._read)

    def go_on(self, client: Client) -> bool:
        """Read on; say whether that was all of it. Raises only when not a byte came."""
        extra = {"Range": f"bytes={len(self._read)}-"} if self._read else {}
        answer = get_object(client, **self._request, **extra)
        if self._read and (answer is None or answer["ETag"] != self._etag):
            # Written anew meanwhile: what was read belongs to another object.
            self._read.clear()
            answer = get_object(client, **self._request)
        if answer is None:
            return True
        self._etag, had = answer["ETag"], len(self._read)
        try:
            while chunk := answer["Body"].read(_CHUNK_BYTES):
                self._read += chunk
        except S3_ERRORS as error:
            if len(self._read) == had or not is_transient(error):
                raise
            return False
        return True


def _put_request(bucket: str, name: str, body: bytes) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": name, "Body": body, "ContentMD5": content_md5(body)}
