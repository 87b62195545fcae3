"""Multipart uploads that were begun in a bucket and never ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.store.base import ObjectStore
from infra.store.s3 import S3Store
from infra.store.s3_client import Client, call_s3
from infra.store.s3_errors import error_code


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload; the object it would become is not there."""

    key: str
    upload_id: str
    size_bytes: int
    """Of the parts that arrived."""
    since_s: float
    """When it was begun: seconds since 1970."""


def list_uploads(store: ObjectStore, prefix: str) -> list[Upload]:
    """List the unfinished uploads to keys below a prefix, with what they hold so far.

    Raises:
        StoreError: the store refuses, or stayed away.
    """
    place = _s3(store)
    request: dict[str, Any] = {"Bucket": place.bucket, "Prefix": _name(place, prefix)}
    found: list[Upload] = []
    while True:
        answer = _call(
            place, "list uploads", lambda client: client.list_multipart_uploads(**request)
        )
        for upload in answer.get("Uploads", ()):
            key = upload["Key"].removeprefix(_name(place, ""))
            upload_id, since_s = upload["UploadId"], upload["Initiated"].timestamp()
            found.append(Upload(key, upload_id, _size_bytes(place, key, upload_id), since_s))
        if not answer.get("IsTruncated"):
            return found
        request["KeyMarker"] = answer["NextKeyMarker"]
        request["UploadIdMarker"] = answer["NextUploadIdMarker"]


def abort_upload(store: ObjectStore, key: str, upload_id: str) -> None:
    """Have the store forget an upload; no error when it knows none.

    Raises:
        StoreError: the store refuses, or stayed away.
    """
    place = _s3(store)
    target = {"Bucket": place.bucket, "Key": _name(place, key), "UploadId": upload_id}
    _call(place, f"abort {key}", lambda client: client.abort_multipart_upload(**target))


def _size_bytes(place: S3Store, key: str, upload_id: str) -> int:
    """Sum up the parts sent so far."""
    request: dict[str, Any] = {"Bucket": place.bucket, "Key": _name(place, key)}
    request["UploadId"] = upload_id
    total = 0
    while True:
        answer = _call(place, f"look at {key}", lambda client: client.list_parts(**request))
        total += sum(part["Size"] for part in answer.get("Parts", ()))
        if not answer.get("IsTruncated"):
            return total
        request["PartNumberMarker"] = answer["NextPartNumberMarker"]


def _call(place: S3Store, what: str, work: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
    """Ask S3; nothing is the answer for an upload that ended meanwhile."""

    def unless_ended(client: Client) -> dict[str, Any]:
        try:
            return work(client)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            return {}

    return call_s3(unless_ended, what=what, place=place.uri, policy=place.policy)


def _name(place: S3Store, key: str) -> str:
    return f"{place.prefix}/{key}" if place.prefix else key


def _s3(store: ObjectStore) -> S3Store:
    if not isinstance(store, S3Store):
        raise TypeError(f"{store.uri} is not in S3")
    return store
