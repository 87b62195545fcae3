"""What S3's errors mean: is an object missing, will another try help, what should a person do."""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final

import urllib3.exceptions
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ResponseStreamingError,
)

from infra.errors import StoreError

S3_ERRORS: Final = (ClientError, BotoCoreError, urllib3.exceptions.HTTPError)
"""All that a call of the client, or a read of its answer's body, raises."""

_BROKEN: Final = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    urllib3.exceptions.HTTPError,
    CredentialRetrievalError,  # what hands out a role's credentials is away
)
"""No connection, a time-out, an answer that broke off."""
_PASSING_CODES: Final = (
    "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "ThrottledException",
    "RequestThrottled", "RequestThrottledException", "TooManyRequests",
    "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch",  # bits that flipped on the way
    "ConditionalRequestConflict", "OperationAborted",  # two PUTs at the same moment
)  # fmt: skip
_PASSING_STATUS: Final = (408, 409, 429)
_STALE: Final = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_REFUSED: Final = (*_STALE, "401", "403", "AccessDenied", "TokenRefreshRequired")
_OTHER_REGION: Final = ("301", "307", "PermanentRedirect", "AuthorizationHeaderMalformed")

_CREDENTIALS: Final = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role, here and on every"
    " node; they must allow to list the bucket and to get, put and delete objects below the prefix"
)
_AWAY: Final = (
    "check AWS_ENDPOINT_URL, the network and the store, then run the same command again: it goes"
    " on from what is stored"
)
_REMEDIES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "make the bucket, or mend its name in the URI, or AWS_ENDPOINT_URL",
    "NoSuchUpload": "somebody aborted the upload (a rule of the bucket, perhaps): run again",
    "RequestTimeTooSkewed": "set this machine's clock",
    "QuotaExceeded": "make room in the store, or have the quota raised, then run again",
    **dict.fromkeys(_REFUSED, _CREDENTIALS),
    **dict.fromkeys(_OTHER_REGION, "set AWS_REGION to the region that the bucket is in"),
}
_ANY: Final = "see what the store says; docs/how-to/s3.md tells what is needed of it"


def error_code(error: Exception) -> str:
    """Return the code of S3's answer, such as "NoSuchKey" or "404"; empty if there was none."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def is_missing(error: Exception) -> bool:
    """Tell whether S3 itself says that there is no such object.

    A bare 404 is what a proxy says whose store is restarting; only the answer to a HEAD, which has
    no body, is no more than that.
    """
    if error_code(error) == "NoSuchKey":
        return True
    return error_code(error) == "404" and getattr(error, "operation_name", "") == "HeadObject"


def is_refusal(error: Exception) -> bool:
    """Tell whether it is about who asks."""
    return error_code(error) in _REFUSED


def has_stale_credentials(error: Exception) -> bool:
    """Tell whether credentials that were renewed since the client was made may be taken."""
    return error_code(error) in _STALE


def is_transient(error: Exception) -> bool:
    """Tell whether the same call may succeed a moment later."""
    if isinstance(error, _BROKEN):
        return not any(isinstance(e, ssl.SSLCertVerificationError) for e in _chain(error))
    status = int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status in _PASSING_STATUS or (status >= 500 and status != 501):
        return True
    is_a_proxys = error_code(error) == "404" and not is_missing(error)
    return is_a_proxys or error_code(error) in _PASSING_CODES


def store_error(error: Exception, endpoint: str, what: str, place: str) -> StoreError:
    """Say what went wrong for good, and what to do.

    Args:
        error: one of S3_ERRORS.
        endpoint: the address that was asked.
        what: what was tried, such as "read manifest.json".
        place: the URI it was tried at.
    """
    code = error_code(error)
    if is_transient(error):
        return StoreError(f"{place}: {endpoint} stayed away: {_said_by(error)}", remedy=_AWAY)
    if isinstance(error, ParamValidationError):
        return StoreError(
            f"{place} names no bucket that can be: {error}",
            remedy="write s3://BUCKET/PREFIX, the bucket with 3 to 63 of a-z, 0-9, . and -",
        )
    if isinstance(error, NoCredentialsError) or "Credential" in type(error).__name__:
        return StoreError(f"{place}: no credentials for S3: {error}", remedy=_CREDENTIALS)
    remedy = _REMEDIES.get(code, _ANY)
    if any(isinstance(e, ssl.SSLCertVerificationError) for e in _chain(error)):
        remedy = "set AWS_CA_BUNDLE to the certificates that this store's is signed by"
    return StoreError(f"{place}: cannot {what} at {endpoint}: {_said_by(error)}", remedy=remedy)


def _answer(error: Exception) -> Mapping[str, Any]:
    return getattr(error, "response", None) or {}


def _said_by(error: Exception) -> str:
    """Return the code and the words of S3's answer, without botocore's frame around them."""
    message, code = _answer(error).get("Error", {}).get("Message"), error_code(error)
    return (f"{code}: {message}" if message else code) or str(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it came of; botocore keeps them in `kwargs`, urllib3 in `args`."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [current.__cause__, current.__context__, *current.args]
            pending += getattr(current, "kwargs", {}).values()
            pending.append(getattr(current, "reason", None))
