"""How many requests it takes to read from a bucket. With a real S3 server, behind a proxy that counts."""

import os
import random
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
from counting import Requests
from pictures import SIZE, png, read_all, tarred, write_parquet, zipped
from PIL import Image

from faceae import storage
from faceae.data import archives
from faceae.data.reader import fetch
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.storage import stores

PORTRAITS = {f"{number:05d}.png": portrait(number, SIZE) for number in range(64)}
FILES = {name: png(Image.fromarray(image)) for name, image in PORTRAITS.items()}


@pytest.fixture
def requests(seaweed, monkeypatch):
    caches = (stores._filesystem, stores.s3_client)
    with Requests(seaweed.ports["-s3.port"]) as counted:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{counted.port}")
        for cache in caches:
            cache.cache_clear()
        storage.exists("s3://faces")  # asks for the bucket's region
        stores.s3_client("faces")
        counted.counts.clear()
        yield counted
    for cache in caches:
        cache.cache_clear()


def taken(requests, action):
    requests.counts.clear()
    result = action()
    return result, {method.decode(): number for method, number in requests.counts.items()}


def shuffled(uri):
    """The images of a source in the random order of training."""
    entries = list_sources([uri], "--data.source").entries
    random.Random(0).shuffle(entries)
    return entries


def assert_portraits(found):
    assert set(found) == set(PORTRAITS)
    assert all(np.array_equal(found[name], image) for name, image in PORTRAITS.items())


def test_an_object_takes_one_request(requests):
    storage.write("s3://faces/one/a.png", b"0123456789")
    assert taken(requests, lambda: storage.read("s3://faces/one/a.png")) == (b"0123456789", {"GET": 1})
    assert taken(requests, lambda: storage.read("s3://faces/one/a.png", 2, 3)) == (b"234", {"GET": 1})
    assert taken(requests, lambda: storage.read("s3://faces/one/a.png", 8, 30)) == (b"89", {"GET": 1})
    assert storage.read("s3://faces/one/a.png", 4) == b"456789"
    assert storage.read("s3://faces/one/a.png", 10, 5) == b""


def test_where_obstore_does_not_find_the_credentials_pyarrow_reads(requests, monkeypatch, tmp_path):
    storage.write("s3://faces/one/a.png", b"0123456789")
    (tmp_path / ".aws").mkdir()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    keys = "\n".join(f"{name.lower()} = {value}" for name in names if (value := os.environ[name]))
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in names:
        monkeypatch.delenv(name)
    for cache in (stores._filesystem, stores.s3_client):
        cache.cache_clear()
    assert stores.s3_client("faces") is None
    storage.read("s3://faces/one/a.png")
    assert taken(requests, lambda: storage.read("s3://faces/one/a.png")) == (b"0123456789", {"HEAD": 1, "GET": 1})


@pytest.mark.parametrize(
    "name", ["a b.png", "a+b.png", "a%20b.png", "50%.png", "a#b.png", "a~b.png", "a%7Eb.png", "顔.png"]
)
def test_any_name_is_read_back(s3, name):
    storage.write(f"s3://faces/names/{name}", name.encode())
    assert storage.read(f"s3://faces/names/{name}") == name.encode()


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_archive_is_listed_and_read_with_few_requests_in_any_order(requests, form):
    uri = f"s3://faces/requests/a.{form}"
    storage.write(uri, tarred(FILES) if form == "tar" else zipped(FILES))
    entries, listing = taken(requests, lambda: shuffled(uri))
    found, reading = taken(requests, lambda: read_all(entries))
    assert_portraits(found)
    assert sum(listing.values()) <= 5
    assert reading == {"GET": 8}  # one a unit: there are at least 8, whatever the number of images


def test_far_members_of_a_tar_are_not_read_with_what_lies_between(requests):
    noise = random.Random(0).randbytes(2**20)
    names = list(FILES)[:4]
    content = {name: part for i, n in enumerate(names) for name, part in ((n, FILES[n]), (f"{i}.bin", noise))}
    storage.write("s3://faces/requests/far.tar", tarred(content))
    before = requests.received
    entries, listing = taken(requests, lambda: list_sources(["s3://faces/requests/far.tar"], "--data.source").entries)
    found, _ = taken(requests, lambda: read_all(entries))
    assert all(np.array_equal(found[name], PORTRAITS[name]) for name in names)
    assert sum(listing.values()) <= 12
    assert requests.received - before < 2**20


def test_a_tar_that_shrank_since_it_was_listed_is_read_up_to_its_end(s3):
    uri, whole = "s3://faces/requests/shrunk.tar", tarred(FILES)
    storage.write(uri, whole)
    entries = shuffled(uri)
    cut = sorted(entry.span.offset for entry in entries)[40] + 1
    storage.write(uri, whole[:cut])
    found = read_all(entries)
    for entry in entries:
        if entry.span.offset + entry.span.length <= cut:
            assert np.array_equal(found[entry.image_id], PORTRAITS[entry.image_id])
        else:
            assert found[entry.image_id] == "the archive ends before the end of this file"
    assert sum(isinstance(result, str) for result in found.values()) == 24


def test_the_footer_of_a_parquet_file_is_read_once_a_unit(requests, tmp_path):
    write_parquet(tmp_path / "a.parquet", "hugging face", count=64, row_group=2)
    storage.write("s3://faces/requests/a.parquet", (tmp_path / "a.parquet").read_bytes())
    entries = shuffled("s3://faces/requests/a.parquet")
    found, reading = taken(requests, lambda: read_all(entries))
    assert_portraits(found)
    groups, units = pq.ParquetFile(tmp_path / "a.parquet").num_row_groups, 8
    assert reading["HEAD"] == units
    assert reading["GET"] <= groups + 2 * units


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_an_outage_in_the_middle_of_a_unit_is_waited_for(seaweed, tmp_path, monkeypatch, form):
    uri = f"s3://faces/outage/a.{form}"
    if form == "tar":
        monkeypatch.setattr(archives, "_MAX_REQUEST", 8192)  # a few images a request
        storage.write(uri, tarred(FILES))
    else:
        write_parquet(tmp_path / "a.parquet", "hugging face", count=64, row_group=8)
        storage.write(uri, (tmp_path / "a.parquet").read_bytes())
    fetched = fetch(list_sources([uri], "--data.source").entries, SIZE)
    first = next(fetched)
    seaweed.stop()
    restart = threading.Timer(2, seaweed.start)
    restart.start()
    try:
        assert [first, *fetched] == list(FILES.values())
    finally:
        restart.join()
