import ssl

import pytest
import urllib3.exceptions
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    SSLError,
)

from infra.store.s3_errors import is_missing, is_refusal, is_transient, store_error


def answer(status: int, code: str, operation: str = "GetObject") -> ClientError:
    said = {"Error": {"Code": code, "Message": "as it says"}}
    return ClientError({**said, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


def tls_error(cause: Exception) -> SSLError:
    error = SSLError(endpoint_url="https://s3", error=cause)
    error.__cause__ = cause
    return error


PASSING = [
    answer(500, "InternalError"),
    answer(503, "SlowDown"),
    answer(429, "TooManyRequests"),
    answer(408, "RequestTimeout"),
    answer(409, "ConditionalRequestConflict", "PutObject"),
    answer(400, "BadDigest", "PutObject"),
    answer(404, "404", "PutObject"),
    ConnectTimeoutError(endpoint_url="http://s3"),
    CredentialRetrievalError(provider="iam-role", error_msg="away"),
    urllib3.exceptions.ProtocolError("broke off"),
    tls_error(ssl.SSLError("UNEXPECTED_EOF_WHILE_READING")),
]
FINAL = [
    answer(404, "NoSuchKey"),
    answer(404, "NoSuchBucket"),
    answer(404, "404", "HeadObject"),
    answer(412, "PreconditionFailed", "PutObject"),
    answer(403, "AccessDenied"),
    answer(501, "NotImplemented", "PutObject"),
    NoCredentialsError(),
    tls_error(ssl.SSLCertVerificationError("self-signed")),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert is_transient(error)
    assert not is_missing(error)
    assert "stayed away" in store_error(error, "http://s3", "read a", "s3://b").problem


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_what_will_not_is_said_at_once(error: Exception) -> None:
    assert not is_transient(error)
    assert "stayed away" not in store_error(error, "http://s3", "read a", "s3://b").problem


def test_only_s3_says_that_an_object_is_missing() -> None:
    assert is_missing(answer(404, "NoSuchKey"))
    assert is_missing(answer(404, "404", "HeadObject"))
    assert not is_missing(answer(404, "404", "GetObject"))
    assert not is_missing(answer(404, "NoSuchBucket"))


def test_a_store_that_fails_has_not_refused_anybody() -> None:
    assert is_refusal(answer(403, "SignatureDoesNotMatch"))
    assert not is_refusal(answer(503, "SlowDown"))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (answer(403, "AccessDenied"), "AWS_SECRET_ACCESS_KEY"),
        (answer(404, "NoSuchBucket"), "bucket"),
        (answer(404, "NoSuchUpload", "UploadPart"), "aborted"),
        (answer(301, "PermanentRedirect"), "AWS_REGION"),
        (answer(403, "RequestTimeTooSkewed"), "clock"),
        (NoCredentialsError(), "AWS_PROFILE"),
        (tls_error(ssl.SSLCertVerificationError("self-signed")), "AWS_CA_BUNDLE"),
    ],
    ids=str,
)
def test_the_remedy_is_about_what_was_said(error: Exception, word: str) -> None:
    assert word in store_error(error, "http://s3", "read a", "s3://b").remedy
