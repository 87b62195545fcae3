"""`alexnet storage check`: try a store's promises one by one, and say which it keeps."""

from typing import IO, Any

from infra.progress import tell
from infra.store import open_store
from infra.store.check import check_store, refuse_unless_kept
from pipelines.context import FIRST_CONTACT_S


def try_storage(uri: str, stream: IO[str]) -> dict[str, Any]:
    """Try every promise; returns what `storage check --json` prints.

    Args:
        uri: a directory, or s3://bucket/prefix.
        stream: gets a line a promise.

    Raises:
        StoreError: a promise is not kept, or the store cannot be reached.
    """
    store = open_store(uri).with_deadline(FIRST_CONTACT_S)
    findings = check_store(store)
    for finding in findings:
        tell(stream, f"{finding.promise:<34} {finding.problem or 'kept'}")
    refuse_unless_kept(store, findings)
    return {"uri": store.uri, "promises": {finding.promise: "kept" for finding in findings}}
