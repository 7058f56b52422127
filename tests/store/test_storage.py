"""Requests are retried while a store is unreachable, but not if it refuses them. With a real S3 server."""

import logging
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from counting import Requests

from faceae import storage
from faceae.errors import InputError
from faceae.storage import files, stores


@pytest.fixture
def one_second(monkeypatch, new_clients):
    """A request is lost after one second without a byte. The clients have credentials."""
    monkeypatch.setattr(stores, "SILENCE_S", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)


@pytest.fixture
def new_clients():
    """Discards the clients that were made for another environment."""
    caches = (stores._filesystem, stores.s3_client)
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


class LosesAnswers(Requests):
    """A proxy that loses the answers to the first deletion, and to the client's own second attempt at it."""

    lost, deleting = 0, False

    def _on(self, content):
        if re.match(rb"DELETE |POST /\S*\?delete", content):
            self.deleting = True
        elif self.deleting and self.lost < 2 and content.startswith(b"HTTP/"):
            self.lost += 1
            raise ConnectionResetError


@pytest.mark.parametrize("delete", [storage.delete, pytest.param(storage.delete_folder, marks=pytest.mark.slow)])
def test_a_deletion_whose_answer_was_lost_has_succeeded(seaweed, new_clients, monkeypatch, delete):
    monkeypatch.setattr(stores, "SILENCE_S", 1)  # the client waits so long before its second attempt
    uri = "s3://faces/gone" if delete is storage.delete_folder else "s3://faces/gone/file"
    storage.write("s3://faces/gone/file", b"content")
    with LosesAnswers(seaweed.ports["-s3.port"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        for cache in (stores._filesystem, stores.s3_client):
            cache.cache_clear()
        delete(uri)
    assert proxy.lost == 2
    assert not storage.list_files("s3://faces/gone", missing_ok=True)


def test_a_server_that_accepts_and_never_answers_is_soon_reported(one_second, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # its backlog accepts
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(InputError, match="the server cannot be reached; check AWS_ENDPOINT_URL"):
            storage.info("s3://faces/old")
        assert files._get("s3://faces/old", 0, None) is None
        assert time.monotonic() - start < 10 * stores.SILENCE_S


class Slow(BaseHTTPRequestHandler):
    """An object of 8 bytes, one every 0.2 s."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        for name, value in {"Content-Length": "8", "ETag": '"x"', "Last-Modified": self.date_time_string()}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        for byte in b"01234567":
            self.wfile.write(bytes([byte]))
            time.sleep(0.2)

    def log_message(self, *_):
        pass


def test_a_slow_transfer_is_not_cut_off(one_second, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        start = time.monotonic()
        assert files._get("s3://faces/old", 0, None) == b"01234567"
        filesystem, path = storage.resolve("s3://faces/old")
        with filesystem.open_input_file(path) as file:
            assert file.read() == b"01234567"
        assert time.monotonic() - start > 2.5 * stores.SILENCE_S
        server.shutdown()


def test_no_message_repeats_a_password_of_the_endpoint(new_clients, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:HIDDEN@127.0.0.1:9")
    with pytest.raises(InputError, match=r"\(at http://127\.0\.0\.1:9\)") as error:
        storage.info("s3://faces/old")
    assert "HIDDEN" not in str(error.value)


@pytest.mark.parametrize("uri", ["s3://KEY:HIDDEN@faces/x", "s3://KEY:HID/DEN@faces/x", "s3://KEY@faces"])
@pytest.mark.parametrize("action", [storage.read, storage.exists, storage.list_files, storage.absolute])
def test_credentials_in_a_uri_are_refused_whoever_gives_them(action, uri):
    with pytest.raises(InputError, match="credentials do not belong in a URI") as error:
        action(uri)
    assert not any(word in str(error.value) for word in ("HIDDEN", "DEN@", "KEY:"))
