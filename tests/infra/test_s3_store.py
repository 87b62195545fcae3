"""What S3 does that no other store does: lost answers, cut bodies, refusals, parts."""

import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from s3_servers import FaultyServer, RealServer

from infra.errors import RecipeError, StoreError
from infra.store import RangeFile, open_store
from infra.store.s3 import S3Store
from infra.store.s3_client import forget_clients, s3_client
from infra.store.s3_upload import PART_BYTES


def impatient(store: S3Store) -> S3Store:
    return store.with_deadline(1.0)


def test_a_uri_opens_the_same_place(s3_store: S3Store) -> None:
    s3_store.write("a b/ü%+.json", b"1")
    assert open_store(f"{s3_store.uri}/").read("a b/ü%+.json") == b"1"
    assert pickle.loads(pickle.dumps(s3_store)).read("a b/ü%+.json") == b"1"
    assert [info.key for info in s3_store.child("a b").list()] == ["ü%+.json"]


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///x", "s3://b/a/../b", "s3://b/a//b", "s3://b/../x", "s3://b/./x", "s3://b//x"],
)
def test_a_uri_without_a_place_is_refused(uri: str) -> None:
    with pytest.raises(RecipeError, match="names no place"):
        open_store(uri)


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd"])
def test_a_key_that_leads_out_of_the_store_is_refused(key: str) -> None:
    store = S3Store("bucket", "prefix")
    for access in (store.read, store.stat, store.delete, store.child):
        with pytest.raises(ValueError, match="below the store"):
            access(key)


def test_a_long_listing_comes_whole_and_without_the_folders_of_consoles(
    faulty_store: S3Store,
) -> None:
    keys = [f"k/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: faulty_store.write(key, b""), [*keys, "k/folder/"]))
    assert [info.key for info in faulty_store.list("k/")] == keys


def test_a_version_is_told_alike_by_listing_and_look(s3_store: S3Store) -> None:
    for key, body in {"empty": b"", "full": b"x" * 10}.items():
        s3_store.write(key, body)
        assert s3_store.stat(key) == next(s3_store.list(key))


# One try begins, then another: the first is known to have failed, or is not.
@pytest.mark.parametrize("fault", [500, 503, "reset", "lost-answer"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_create_whose_answer_is_lost_is_known_to_be_ours(
    faulty_store: S3Store, faulty_s3: FaultyServer, fault: str | int, count: int
) -> None:
    faulty_s3.add_fault(fault, method="PUT", count=count)
    assert faulty_store.create("claim", b"mine")
    assert faulty_s3.hits() == [count if fault != "lost-answer" else 1]
    assert not faulty_store.create("claim", b"mine")
    assert faulty_store.read("claim") == b"mine"


def test_of_sixteen_creates_with_lost_answers_one_wins(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    faulty_s3.add_fault("lost-answer", method="PUT", rate=0.5)
    faulty_s3.add_fault(503, rate=0.2, seed=1)
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda n: faulty_store.create("claim", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert faulty_store.read("claim") == b"%d" % won.index(True)


def test_a_body_that_breaks_off_is_read_on(faulty_store: S3Store, faulty_s3: FaultyServer) -> None:
    body = os.urandom(5 << 20)
    faulty_store.write("a", body)
    faulty_s3.add_fault("truncate", method="GET", count=2)
    assert faulty_store.read("a") == body
    faulty_s3.add_fault("truncate", method="GET", count=1)
    assert faulty_store.read_range("a", 1 << 20, 4 << 20) == body[1 << 20 : 4 << 20]
    assert faulty_s3.hits() == [2, 1]


def test_large_objects_go_in_parts_each_tried_again(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    body = os.urandom(2 * PART_BYTES + 5)
    faulty_s3.add_fault(500, method="PUT", query="partNumber=2", count=1)
    faulty_s3.add_fault("lost-answer", method="POST", query="uploadId=", count=1)
    with faulty_store.open_output("large") as file:
        for start in range(0, len(body), 1 << 20):
            file.write(body[start : start + (1 << 20)])
    assert faulty_s3.hits() == [1, 1]
    assert faulty_store.read("large") == body


def test_a_large_output_whose_block_fails_leaves_nothing(faulty_store: S3Store) -> None:
    def write_half() -> None:
        with faulty_store.open_output("large") as file:
            file.write(bytes(2 * PART_BYTES))
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert list(faulty_store.list()) == []
    client, target = s3_client(), {"Bucket": faulty_store.bucket, "Prefix": faulty_store.prefix}
    assert "Uploads" not in client.list_multipart_uploads(**target)


def test_a_store_that_stays_away_is_named_when_patience_ends(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    faulty_s3.add_fault(503)
    started = time.monotonic()
    with pytest.raises(StoreError, match="stayed away: SlowDown") as caught:
        impatient(faulty_store).read("a")
    assert time.monotonic() - started < 5
    assert "AWS_ENDPOINT_URL" in caught.value.remedy


def test_a_secret_that_is_wrong_is_refused_at_once(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    forget_clients()
    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
        s3_store.write("a", b"")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.remedy
    assert "not the secret" not in f"{caught.value.problem} {caught.value.remedy}"


def test_a_bucket_that_is_not_there_is_no_missing_object(s3_store: S3Store) -> None:
    elsewhere = S3Store("no-such-bucket")
    for access in (elsewhere.stat, elsewhere.read, lambda key: elsewhere.write(key, b"")):
        with pytest.raises(StoreError, match="NoSuchBucket") as caught:
            access("a")
        assert "bucket" in caught.value.remedy


@pytest.mark.usefixtures("s3_store")
def test_a_name_that_no_bucket_has_is_refused() -> None:
    with pytest.raises(StoreError, match="names no bucket"):
        S3Store("No Bucket").read("a")


def test_an_endpoint_where_nobody_listens_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_clients()
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9 stayed away"):
        impatient(S3Store("bucket")).read("a")
    assert time.monotonic() - started < 5
    forget_clients()


def test_without_credentials_the_error_says_so(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    forget_clients()
    with pytest.raises(StoreError, match="no credentials"):
        s3_store.read("a")


def test_a_profile_that_is_not_there_is_named(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    forget_clients()
    with pytest.raises(StoreError, match="nobodys"):
        s3_store.read("a")


def test_a_killed_gateway_is_waited_for(killable_s3: RealServer, s3_store: S3Store) -> None:
    s3_store.write("before", b"1")
    killable_s3.kill()
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(s3_store.read, "before")
        creating = threads.submit(s3_store.create, "claim", b"2")
        time.sleep(1.0)
        killable_s3.start()
        assert reading.result(timeout=60) == b"1"
        assert creating.result(timeout=60)


def test_a_range_file_reads_what_it_fetched_without_a_request(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    body = os.urandom(1 << 16)
    faulty_store.write("a", body)
    file = RangeFile(faulty_store, "a", 0, len(body), read_ahead_bytes=0)
    file.fetch([(100, 200), (5000, 9000)])
    faulty_s3.add_fault("slow", seconds=0, rate=1.0)
    for start, stop in ((5000, 9000), (150, 160), (100, 200)):
        file.seek(start)
        assert file.read(stop - start) == body[start:stop]
    assert faulty_s3.hits() == [0]
    file.seek(60_000)
    assert file.read(100_000) == body[60_000:]


def test_a_proxys_404_is_an_outage_and_no_missing_object(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    faulty_store.write("a", b"1")
    faulty_s3.add_fault("proxy-404", count=2)
    assert faulty_store.read("a") == b"1"
    faulty_s3.add_fault("proxy-404", count=2)
    assert faulty_store.stat("a") is not None
    faulty_s3.add_fault("proxy-404")
    for call in (
        lambda: impatient(faulty_store).read("a"),
        lambda: impatient(faulty_store).write("a", b""),
        lambda: impatient(faulty_store).create("b", b""),
        lambda: list(impatient(faulty_store).list()),
    ):
        with pytest.raises(StoreError, match="stayed away"):
            call()


@pytest.mark.parametrize("status", [408, 429])
def test_a_store_that_asks_for_patience_gets_it(
    faulty_store: S3Store, faulty_s3: FaultyServer, status: int
) -> None:
    faulty_s3.add_fault(status, count=2)
    faulty_store.write("a", b"1")
    assert faulty_s3.hits() == [2]


def test_a_call_that_hangs_waits_no_longer_than_its_deadline(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    """A heartbeat that hung for half a minute would cost its owner the lease."""
    faulty_s3.add_fault("slow", seconds=12, count=1)
    started = time.monotonic()
    with pytest.raises(StoreError, match="stayed away"):
        impatient(faulty_store).write("beat", b"1")
    assert time.monotonic() - started < 6


def test_a_read_that_breaks_off_again_and_again_is_read_to_its_end(
    faulty_store: S3Store, faulty_s3: FaultyServer
) -> None:
    """Every piece has the deadline for itself: here each try is cut, and the last one is short."""
    body = os.urandom(3 << 20)
    faulty_store.write("a", body)
    faulty_s3.add_fault("truncate", method="GET", count=15)
    assert faulty_store.with_deadline(0).read("a") == body


def test_credentials_that_were_renewed_meanwhile_are_taken(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "an old one")
    forget_clients()
    s3_client()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3_store.write("a", b"1")


def test_threads_that_ask_at_once_share_one_client(s3_store: S3Store) -> None:
    forget_clients()
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(lambda _: id(s3_client()), range(16)))) == 1
