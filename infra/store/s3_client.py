"""The one place of boto3: a client for the standard environment, calls tried again, errors named.

The standard environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role of the
machine or pod; AWS_ENDPOINT_URL for a store that is not Amazon's; AWS_REGION.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ResponseStreamingError,
    SSLError,
)

from infra.errors import StoreError
from infra.retry import RetryPolicy

Result = TypeVar("Result")
Client = Any
"""boto3 makes its classes as it runs, so they have no types."""

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
CONNECTIONS: Final = 64

NOT_FOUND: Final = ("404", "NoSuchKey", "NotFound")
TAKEN: Final = ("412", "PreconditionFailed")
WRITER: Final = "writer"
"""Name of the metadata that tells whose PUT an object is: an answer can get lost."""
_TRANSIENT: Final = (
    "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "429",
    "409", "ConditionalRequestConflict", "OperationAborted",  # two PUTs at the same moment
)  # fmt: skip
_BROKEN: Final = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)
"""No connection, a time-out, an answer that broke off."""
_REFUSED: Final = (
    "401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
    "SignatureDoesNotMatch", "TokenRefreshRequired",
)  # fmt: skip
_OTHER_REGION: Final = ("301", "307", "PermanentRedirect", "AuthorizationHeaderMalformed")

_CREDENTIALS: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role, here and on every"
    " node; they must allow to list the bucket and to get, put and delete objects below the prefix"
)
_REMEDIES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "make the bucket, or mend its name in the URI, or AWS_ENDPOINT_URL",
    "RequestTimeTooSkewed": "set this machine's clock",
    **dict.fromkeys(_REFUSED, _CREDENTIALS),
    **dict.fromkeys(_OTHER_REGION, "set AWS_REGION to the region that the bucket is in"),
}
_AWAY: Final = (
    "check AWS_ENDPOINT_URL, the network and the store, then run the same command again: it goes"
    " on from what is stored"
)


@cache
def s3_client(secret_key: str | None = None) -> Client:
    """Return this process's client; threads share it.

    Args:
        secret_key: another secret than the environment's, to see whether it is refused.

    Raises:
        StoreError: the environment's settings contradict each other or name no profile.
    """
    import boto3

    try:
        # boto3 itself reads AWS_DEFAULT_REGION alone.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
        other: dict[str, str] = {}
        if secret_key is not None and (found := session.get_credentials()) is not None:
            other = {"aws_access_key_id": found.access_key, "aws_secret_access_key": secret_key}
        client = session.client("s3", config=_config(), **other)
        if ".amazonaws." not in client.meta.endpoint_url:
            # Others seldom have a host name a bucket.
            client = session.client("s3", config=_config("path"), **other)
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"S3 cannot be used: {error}",
            remedy="mend AWS_PROFILE, AWS_ENDPOINT_URL or the files in ~/.aws",
        ) from error
    return client


def _config(addressing_style: str = "auto") -> Any:  # noqa: ANN401 - see Client
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        # RetryPolicy tries again: with a deadline, and also when a body breaks off.
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        # Content-MD5 guards what is sent, our own digests what is read; trailers, which boto3 sends
        # by default over TLS, are refused by older stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing_style},
    )


def call_s3(
    work: Callable[[Client], Result], *, what: str, place: str, policy: RetryPolicy
) -> Result:
    """Do something with the client, again while the store is away.

    Args:
        work: may run many times. Its FileNotFoundError passes through.
        what: for people, such as "read manifest.json".
        place: the URI that the error names.
        policy: how long to go on.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the store refuses, or stayed away.
    """
    client = s3_client()
    try:
        return policy.call(
            lambda: work(client), what=f"{what} at {place}", is_transient=is_transient
        )
    except (ClientError, BotoCoreError) as error:
        if error_code(error) in NOT_FOUND:
            raise FileNotFoundError(f"{place}: {what}") from error
        raise _store_error(error, client, what, place) from error


def writer_of(client: Client, target: Mapping[str, str]) -> str | None:
    """Return the WRITER of the object there, "" if it names none; None if there is no object."""
    try:
        answer = client.head_object(**target)
    except ClientError as error:
        if error_code(error) in NOT_FOUND:
            return None
        raise
    return str(answer["Metadata"].get(WRITER, ""))


def error_code(error: Exception) -> str:
    """Return the code of S3's answer, such as "NoSuchKey" or "404"; empty if there was none."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_transient(error: Exception) -> bool:
    """Tell whether the same call may succeed a moment later: no answer, half of one, or a 5xx."""
    if isinstance(error, _BROKEN) and not isinstance(error, SSLError):
        return True
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return error_code(error) in _TRANSIENT or (status >= 500 and status != 501)


def _store_error(error: Exception, client: Client, what: str, place: str) -> StoreError:
    endpoint, code = client.meta.endpoint_url, error_code(error)
    if is_transient(error):
        return StoreError(f"{place}: {endpoint} stayed away: {_said_by(error)}", remedy=_AWAY)
    if isinstance(error, ParamValidationError):
        return StoreError(
            f"{place} names no bucket that can be: {error}",
            remedy="write s3://BUCKET/PREFIX, the bucket with 3 to 63 of a-z, 0-9, . and -",
        )
    if isinstance(error, NoCredentialsError) or "Credential" in type(error).__name__:
        return StoreError(f"{place}: no credentials for S3: {error}", remedy=_CREDENTIALS)
    return StoreError(
        f"{place}: cannot {what} at {endpoint}: {_said_by(error)}",
        remedy=_REMEDIES.get(code, _AWAY),
    )


def _said_by(error: Exception) -> str:
    """Return the code and the words of S3's answer, without botocore's frame around them."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    message = response.get("Error", {}).get("Message")
    code = error_code(error)
    return (f"{code}: {message}" if message else code) or str(error)
