"""Promises that only S3 can break: other clients read the same bytes, secrets are looked at."""

import hashlib
import os
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from infra.store.s3 import S3Store
from infra.store.s3_client import s3_client

_WRONG_SECRET = "a secret that nobody was given"


def endpoint_of(store: S3Store) -> str:
    """Return the address that answers for a store, and its bucket."""
    return f"{s3_client().meta.endpoint_url}/{store.bucket}"


def pyarrow_reads_what_we_write(store: S3Store) -> str | None:
    """Exchange an object with pyarrow's own client, both ways."""
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
    except OSError as error:
        return f"it fails: {error}"
    return None if store.read("from-pyarrow") == body else "what it writes is stored otherwise"


def answers_a_wrong_secret(store: S3Store) -> str | None:
    """Ask with a secret that is none."""
    try:
        s3_client(_WRONG_SECRET).list_objects_v2(Bucket=store.bucket, MaxKeys=1)
    except (ClientError, BotoCoreError):
        return None
    return "anybody with the key's name may read"


def _pyarrow_files() -> Any:  # noqa: ANN401 - pyarrow ships no types
    from pyarrow.fs import S3FileSystem

    client = s3_client()
    credentials = client._request_signer._credentials.get_frozen_credentials()
    # Read by its C++ client alone; stores that know no trailers answer 411 without.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    address = urlsplit(client.meta.endpoint_url)
    is_amazon = ".amazonaws." in client.meta.endpoint_url
    return S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=client.meta.region_name,
        connect_timeout=5,
        request_timeout=30,
        **({} if is_amazon else {"endpoint_override": address.netloc, "scheme": address.scheme}),
    )
