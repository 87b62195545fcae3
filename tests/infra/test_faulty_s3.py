"""That the S3 server with faults is as strict as S3, and fails as it is told."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError
from s3_servers import FaultyServer, ServerUnavailable, start_real_server

ONE_ATTEMPT = Config(retries={"total_max_attempts": 1})
PART = bytes(5 << 20)
"""The smallest that S3 takes for a part that is not the last."""


def client_of(server: FaultyServer, **settings: Any) -> Any:
    """A client that tries once, so that a test sees every answer."""
    settings["config"] = ONE_ATTEMPT.merge(settings.get("config", Config()))
    environment = server.environment
    defaults = {
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
        "region_name": environment["AWS_REGION"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
    }
    return boto3.client("s3", **{**defaults, **settings})


@pytest.fixture
def s3(faulty_s3: FaultyServer) -> Iterator[Any]:
    client = client_of(faulty_s3)
    yield client
    client.close()


@pytest.fixture
def at(faulty_s3: FaultyServer, tmp_path: Path) -> dict[str, str]:
    """Where this test's object lies, apart from those of others."""
    return {"Bucket": faulty_s3.bucket, "Key": f"{tmp_path.name}/object"}


def body_of(s3: Any, at: dict[str, str], **conditions: str) -> bytes:
    # Closed so, because a `with` of the stream itself yields urllib3's and its errors.
    with closing(s3.get_object(**at, **conditions)["Body"]) as stream:
        return stream.read()


def answer_to(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.mark.parametrize("name", ["a b", "a+b", "zürich", "100%", "a%20b", "a=1&b?c#d", "a//b"])
def test_keys_with_odd_characters_are_signed_stored_and_listed(
    s3: Any, at: dict[str, str], name: str
) -> None:
    at["Key"] += name
    s3.put_object(**at, Body=name.encode())
    assert body_of(s3, at) == name.encode()
    listed = s3.list_objects_v2(Bucket=at["Bucket"], Prefix=at["Key"])["Contents"]
    assert [(item["Key"], item["Size"]) for item in listed] == [(at["Key"], len(name.encode()))]


def test_a_range_is_read(s3: Any, at: dict[str, str]) -> None:
    s3.put_object(**at, Body=bytes(range(100)), Metadata={"snake_case": "kept"})
    assert body_of(s3, at, Range="bytes=10-19") == bytes(range(10, 20))
    assert s3.head_object(**at)["ContentLength"] == 100
    assert s3.head_object(**at)["Metadata"] == {"snake_case": "kept"}


def test_parts_become_one_object(s3: Any, at: dict[str, str]) -> None:
    upload = {**at, "UploadId": s3.create_multipart_upload(**at)["UploadId"]}
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**upload, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate([PART, b"the end"], start=1)
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert body_of(s3, at) == PART + b"the end"


def test_many_objects_are_deleted_in_one_request(s3: Any, at: dict[str, str]) -> None:
    s3.put_object(**at)
    s3.delete_objects(Bucket=at["Bucket"], Delete={"Objects": [{"Key": at["Key"]}]})
    assert s3.list_objects_v2(Bucket=at["Bucket"], Prefix=at["Key"])["KeyCount"] == 0


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"aws_secret_access_key": "another"}, "SignatureDoesNotMatch"),
        ({"aws_access_key_id": "another"}, "InvalidAccessKeyId"),
        ({"config": Config(signature_version=UNSIGNED)}, "AccessDenied"),
    ],
)
@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_who_does_not_sign_with_the_key_is_refused(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str], settings: Any, code: str, operation: str
) -> None:
    s3.put_object(**at, Body=b"whole")
    stranger = client_of(faulty_s3, **settings)
    with pytest.raises(ClientError) as error:
        getattr(stranger, operation)(**at)
    stranger.close()
    assert answer_to(error) == (403, code)
    assert body_of(s3, at) == b"whole"


def test_a_body_that_is_not_the_signed_one_is_refused(s3: Any, at: dict[str, str]) -> None:
    def damage(request: Any, **_: Any) -> None:
        request.body = b"Whole"

    s3.meta.events.register("before-send.s3.PutObject", damage)
    with pytest.raises(ClientError) as error:
        s3.put_object(**at, Body=b"whole")
    assert answer_to(error) == (400, "XAmzContentSHA256Mismatch")


def test_a_body_need_not_be_signed_but_has_to_fit_its_md5(
    faulty_s3: FaultyServer, at: dict[str, str]
) -> None:
    s3 = client_of(faulty_s3, config=Config(s3={"payload_signing_enabled": False}))
    s3.put_object(**at, Body=b"whole")
    with pytest.raises(ClientError) as error:
        s3.put_object(**at, Body=b"whole", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    s3.close()
    assert answer_to(error) == (400, "BadDigest")


def test_a_conditional_put_creates_once_unless_conditions_are_ignored(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str]
) -> None:
    s3.put_object(**at, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        s3.put_object(**at, Body=b"second", IfNoneMatch="*")
    assert answer_to(error) == (412, "PreconditionFailed")
    faulty_s3.add_fault("ignore-conditions", method="PUT")
    s3.put_object(**at, Body=b"third", IfNoneMatch="*")
    assert body_of(s3, at) == b"third"


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_a_status_is_answered_so_often_and_nothing_done(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str], status: int, code: str
) -> None:
    faulty_s3.add_fault(status, method="PUT", path="/object$", count=2)
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            s3.put_object(**at)
        assert answer_to(error) == (status, code)
    assert s3.list_objects_v2(Bucket=at["Bucket"], Prefix=at["Key"])["KeyCount"] == 0
    s3.put_object(**at)
    assert faulty_s3.hits() == [2]


def test_a_connection_is_reset(faulty_s3: FaultyServer, s3: Any, at: dict[str, str]) -> None:
    faulty_s3.add_fault("reset", count=1)
    with pytest.raises(ConnectionClosedError) as error:
        s3.put_object(**at, Body=PART)
    assert "ConnectionResetError" in repr(error.value.kwargs["error"])
    s3.put_object(**at)


def test_a_body_is_cut_off(faulty_s3: FaultyServer, s3: Any, at: dict[str, str]) -> None:
    s3.put_object(**at, Body=bytes(1000))
    faulty_s3.add_fault("truncate", method="GET", count=1)
    with pytest.raises(ResponseStreamingError, match="500 bytes read, 500 more expected"):
        body_of(s3, at)
    assert body_of(s3, at) == bytes(1000)


def test_an_answer_is_lost(faulty_s3: FaultyServer, s3: Any, at: dict[str, str]) -> None:
    faulty_s3.add_fault("lost-answer", method="PUT", count=1)
    with pytest.raises(ClientError) as error:
        s3.put_object(**at, Body=b"stored")
    assert answer_to(error) == (500, "InternalError")
    assert body_of(s3, at) == b"stored"


def test_slowness_lets_the_next_fault_apply(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str]
) -> None:
    faulty_s3.add_fault("slow", seconds=0.2)
    faulty_s3.add_fault(503, count=1)
    started_at = monotonic()
    with pytest.raises(ClientError):
        s3.put_object(**at)
    assert monotonic() - started_at >= 0.2
    assert faulty_s3.hits() == [1, 1]


def test_a_query_tells_a_part_from_a_whole_put(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str]
) -> None:
    upload = {**at, "UploadId": s3.create_multipart_upload(**at)["UploadId"]}
    faulty_s3.add_fault(500, method="PUT", query="partNumber=2")
    s3.put_object(**at)
    s3.upload_part(**upload, PartNumber=1, Body=b"")
    with pytest.raises(ClientError):
        s3.upload_part(**upload, PartNumber=2, Body=b"")
    s3.abort_multipart_upload(**upload)


def test_a_share_of_the_requests_fails_the_same_ones_every_time(
    faulty_s3: FaultyServer, s3: Any, at: dict[str, str]
) -> None:
    s3.put_object(**at)

    def failures() -> list[int]:
        faulty_s3.clear_faults()
        faulty_s3.add_fault(500, method="GET", rate=0.3, seed=7)
        return [n for n in range(30) if not succeeds(s3, at)]

    first = failures()
    assert 2 <= len(first) <= 18
    assert failures() == first
    assert faulty_s3.hits() == [len(first)]


def succeeds(s3: Any, at: dict[str, str]) -> bool:
    try:
        return body_of(s3, at) == b""
    except ClientError:
        return False


def test_a_fault_that_there_is_not_is_refused(faulty_s3: FaultyServer) -> None:
    with pytest.raises(ValueError, match="no such fault: 'explode'"):
        faulty_s3.add_fault("explode")
    assert faulty_s3.hits() == []


def test_without_its_script_a_real_server_is_said_to_be_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_TEST_TOOLS", str(tmp_path / "none"))
    with pytest.raises(ServerUnavailable, match="set ALEXNET_TEST_TOOLS"):
        start_real_server(tmp_path)
