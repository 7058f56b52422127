"""Requests are retried while a store is unreachable, but not if it refuses them. With a real S3 server."""

import logging
import threading
import time

import pytest

from faceae import storage
from faceae.errors import InputError


@pytest.fixture
def new_clients():
    """Discards the clients that were made for another environment."""
    caches = (storage._filesystem, storage.s3_client)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_reads_writes_and_lists_wait_for_an_unreachable_server(seaweed, caplog):
    storage.write("s3://faces/old", b"content")
    seaweed.stop()
    results = {}
    actions = {
        "read": lambda: storage.read("s3://faces/old"),
        "range": lambda: storage.read("s3://faces/old", 3, 2),
        "write": lambda: storage.write("s3://faces/new", b"late"),
        "list": lambda: storage.list_files("s3://faces"),
    }
    threads = [
        threading.Thread(target=lambda name=name, action=action: results.update({name: action()}))
        for name, action in actions.items()
    ]
    with caplog.at_level(logging.WARNING, "faceae.storage"):
        for thread in threads:
            thread.start()
        time.sleep(3)
        assert not results
        seaweed.start()
        for thread in threads:
            thread.join(60)
    assert results["read"] == b"content"
    assert results["range"] == b"te"
    assert "old" in results["list"]
    assert storage.read("s3://faces/new") == b"late"
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 4
    assert all("the server cannot be reached" in text and "trying again for 120 s" in text for text in notes)


def test_the_first_request_of_a_job_does_not_wait(s3, new_clients, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(InputError, match="the server cannot be reached; check AWS_ENDPOINT_URL"):
        storage.info("s3://faces/old")
    assert time.monotonic() - start < 30


def test_a_refused_request_is_not_retried(s3, new_clients, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    start = time.monotonic()
    with pytest.raises(OSError, match=r"SIGNATURE_DOES_NOT_MATCH|ACCESS_DENIED|HTTP status 403") as refused:
        storage.write("s3://faces/new", b"no")
    assert "credentials" in str(storage.explain(refused.value, "s3://faces/new"))
    assert time.monotonic() - start < 30


def test_a_request_for_a_missing_file_is_not_retried(s3):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError):
        storage.read("s3://faces/nothing")
    assert time.monotonic() - start < 30


def test_a_refused_deletion_is_explained(seaweed):
    """S3 deletes the files of a folder in one request, and refuses each of them in words of its own."""
    for name in ("one", "two"):
        storage.write(f"s3://faces/folder/{name}", b"content")
    seaweed.stop()
    seaweed.start(actions=("Read", "List"))
    try:
        with pytest.raises(OSError, match="Access Denied") as refused:
            storage.delete_folder("s3://faces/folder")
    finally:
        seaweed.stop()
        seaweed.start()
    assert "access is denied; check the credentials" in str(storage.explain(refused.value, "s3://faces/folder"))
