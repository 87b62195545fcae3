"""`alexnet storage check`: try a store's promises one by one, and say which it keeps."""

import sys

from infra.progress import tell
from infra.store import open_store
from infra.store.check import check_store, refuse_unless_kept
from pipelines.context import FIRST_CONTACT_S
from pipelines.output import print_fields


def check_storage(uri: str, *, as_json: bool) -> None:
    """Print every promise as kept, or name those that are not.

    Raises:
        StoreError: a promise is not kept, or the store cannot be reached.
    """
    store = open_store(uri).with_deadline(FIRST_CONTACT_S)
    findings = check_store(store)
    for finding in findings:
        tell(sys.stderr, f"{finding.promise:<34} {finding.problem or 'kept'}")
    refuse_unless_kept(store, findings)
    print_fields(
        {"uri": store.uri, "promises": {finding.promise: "kept" for finding in findings}},
        as_json=as_json,
    )
