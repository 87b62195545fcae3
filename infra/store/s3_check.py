"""Promises that only S3 can break: other clients read the same bytes, secrets are looked at."""

import hashlib
import os
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from infra.store.s3 import S3Store
from infra.store.s3_client import make_client, s3_client
from infra.store.s3_errors import S3_ERRORS, is_refusal

_WRONG_SECRET = "a secret that nobody was given"
_ANSWER_S = 30


def endpoint_of(store: S3Store) -> str:
    """Return the address that answers for a store, and its bucket."""
    return f"{s3_client().meta.endpoint_url}/{store.bucket}"


def pyarrow_reads_what_we_write(store: S3Store) -> str | None:
    """Exchange an object with pyarrow's own client, both ways: people read shards with it."""
    body = hashlib.sha256(b"to pyarrow").digest() * 5000
    store.write("to-pyarrow", body)
    folder = f"{store.bucket}/{store.prefix}"
    try:
        files = _pyarrow_files()
        with files.open_input_file(f"{folder}/to-pyarrow") as file:
            if file.read() != body:
                return "it reads other bytes than were written"
        with files.open_output_stream(f"{folder}/from-pyarrow") as stream:
            stream.write(body)
    except (OSError, pa.ArrowException) as error:
        return f"it fails: {error}"
    return None if store.read("from-pyarrow") == body else "what it writes is stored otherwise"


def answers_a_wrong_secret(store: S3Store) -> str | None:
    """Ask with a secret that is none."""
    client = make_client(_ANSWER_S, secret_key=_WRONG_SECRET)
    try:
        client.list_objects_v2(Bucket=store.bucket, MaxKeys=1)
    except S3_ERRORS as error:
        return None if is_refusal(error) else f"it answers otherwise: {error}"
    return "anybody with the key's name may read"


def _pyarrow_files() -> Any:  # noqa: ANN401 - pyarrow ships no types
    from pyarrow.fs import S3FileSystem

    client = s3_client()
    credentials = client._request_signer._credentials.get_frozen_credentials()
    # Read by its C++ client alone; stores that know no trailers answer 411 without.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    address = urlsplit(client.meta.endpoint_url)
    certificates = os.environ.get("AWS_CA_BUNDLE")
    return S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=client.meta.region_name,
        endpoint_override=address.netloc,
        scheme=address.scheme,
        connect_timeout=5,
        request_timeout=_ANSWER_S,
        **({"tls_ca_file_path": certificates} if certificates else {}),
    )
