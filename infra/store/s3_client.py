"""The one place of boto3: clients for the standard environment, and calls that are tried again.

The standard environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, a role of the
machine or pod; AWS_ENDPOINT_URL for a store that is not Amazon's; AWS_REGION.
"""

import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from infra.errors import StoreError
from infra.retry import RetryPolicy
from infra.store.s3_errors import (
    S3_ERRORS,
    error_code,
    has_stale_credentials,
    is_missing,
    is_transient,
    store_error,
)

Result = TypeVar("Result")
Client = Any
"""boto3 makes its classes as it runs, so they have no types."""

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
CONNECTIONS: Final = 64

WRITER: Final = "writer"
"""Name of the metadata that tells whose PUT an object is: an answer can get lost."""

_CLIENTS: Final[dict[int, Client]] = {}
_MAKING: Final = threading.Lock()


def s3_client(deadline_s: float = math.inf) -> Client:
    """Return this process's client for calls of a deadline; threads share it.

    A single try waits no longer than the deadline: a request whose answer never comes would else
    cost half a minute.

    Raises:
        StoreError: the environment's settings contradict each other or name no profile.
    """
    timeout_s = math.ceil(max(1, min(deadline_s, READ_TIMEOUT_S)))
    with _MAKING:
        if timeout_s not in _CLIENTS:
            _CLIENTS[timeout_s] = make_client(timeout_s)
        return _CLIENTS[timeout_s]


def forget_clients() -> None:
    """Have the next call take its settings and credentials from the environment anew."""
    with _MAKING:
        _CLIENTS.clear()


def make_client(read_timeout_s: float, *, secret_key: str | None = None) -> Client:
    """Make a client of the environment's settings.

    Args:
        read_timeout_s: how long an answer may stay away.
        secret_key: another secret than the environment's, to see whether it is refused.

    Raises:
        StoreError: the settings contradict each other or name no profile.
    """
    import boto3

    # A role's credentials come from a service that many workers ask at the same moment.
    os.environ.setdefault("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "3")
    try:
        # boto3 itself reads AWS_DEFAULT_REGION alone.
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
        other: dict[str, str | None] = {}
        if secret_key is not None and (found := session.get_credentials()) is not None:
            other = {"aws_access_key_id": found.access_key, "aws_secret_access_key": secret_key}
            other["aws_session_token"] = found.token
        client = session.client("s3", config=_config(read_timeout_s, "auto"), **other)
        if ".amazonaws." not in client.meta.endpoint_url:
            # Others seldom have a host name a bucket.
            client = session.client("s3", config=_config(read_timeout_s, "path"), **other)
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"S3 cannot be used: {error}",
            remedy="mend AWS_PROFILE, AWS_ENDPOINT_URL or the files in ~/.aws",
        ) from error
    return client


def _config(read_timeout_s: float, addressing_style: str) -> Any:  # noqa: ANN401 - see Client
    from botocore.config import Config

    return Config(
        connect_timeout=min(CONNECT_TIMEOUT_S, read_timeout_s),
        read_timeout=read_timeout_s,
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
        work: may run many times.
        what: for people, such as "read manifest.json".
        place: the URI that the error names.
        policy: how long to go on.

    Raises:
        FileNotFoundError: there is no such object.
        StoreError: the store refuses, or stayed away.
    """
    described = f"{what} at {place}"

    def work_on() -> Result:
        client = s3_client(policy.deadline_s)
        try:
            return work(client)
        except ClientError as error:
            if not has_stale_credentials(error):
                raise
            # They may have been renewed since the client was made: a file that is written anew.
            forget_clients()
            return work(s3_client(policy.deadline_s))

    try:
        return policy.call(work_on, what=described, is_transient=is_transient)
    except S3_ERRORS as error:
        if is_missing(error):
            raise FileNotFoundError(described) from error
        endpoint = s3_client(policy.deadline_s).meta.endpoint_url
        raise store_error(error, endpoint, what, place) from error


def look(client: Client, target: Mapping[str, str]) -> Mapping[str, Any]:
    """Return S3's description of an object: ContentLength (of all of it), ETag, Metadata.

    Not by HEAD: its answer has no body, so a missing bucket, or a proxy whose store is away, would
    look like a missing object.
    """
    answer = get_object(client, **target, Range="bytes=0-0")
    if answer is None:  # there is no first byte
        empty: Mapping[str, Any] = client.head_object(**target)
        return empty
    answer["Body"].read()
    size = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
    return {**answer, "ContentLength": int(size)}


def get_object(client: Client, **request: Any) -> Any | None:  # noqa: ANN401 - see Client
    """Get an object or a range of it; None for a range past its end."""
    try:
        return client.get_object(**request)
    except ClientError as error:
        if error_code(error) in ("416", "InvalidRange"):
            return None
        raise


def writer_of(client: Client, target: Mapping[str, str]) -> str | None:
    """Return the WRITER of the object there, "" if it names none; None if there is no object."""
    try:
        return str(look(client, target)["Metadata"].get(WRITER, ""))
    except ClientError as error:
        if is_missing(error):
            return None
        raise
