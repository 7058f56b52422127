"""Prepared sets and their manifest: shards that are damaged, or of another set, are noticed before they are read."""

import json

import pytest
from pictures import SIZE, png
from PIL import Image

from faceae import cli, storage
from faceae.config import Settings
from faceae.config.jobs import EvaluateSettings, PrepareSettings
from faceae.data.manifest import MADE_BY, MANIFEST
from faceae.data.shards import plan, read_record, write_shard
from faceae.data.sources import list_sources
from faceae.data.synthetic import portrait
from faceae.errors import InputError
from faceae.run_folder import RunFolder

KEYS = ("name", "rows", "bytes", "sha256")


def prepare(folder, size=SIZE, images=8, first=0):
    """Writes a prepared set of two shards, as jobs/prepare.py does, in this process."""
    for number in range(first, first + images):
        storage.write(f"{folder}-tree/{number}.png", png(Image.fromarray(portrait(number, size))))
    shards = plan(list_sources([f"{folder}-tree"], "").entries, size, images / 2 * size * size * 3 / 1e6)
    for name, entries in shards.items():
        list(write_shard(str(folder), name, entries, size))
    records = [read_record(str(folder), name) for name in shards]
    manifest = {
        "made_by": MADE_BY,
        "finished": True,
        "settings": {"source": ["x"], "image_size": size, "limit": None},
        "shards": [{key: record[key] for key in KEYS} for record in records],
    }
    storage.write_json(f"{folder}/{MANIFEST}", manifest)
    return manifest


@pytest.fixture
def folder(tmp_path):
    prepare(tmp_path / "set")
    return tmp_path / "set"


def listed(folder, verified=False):
    return list_sources([str(folder)], "--data.source", verified).entries


def refusal(folder, verified=False):
    with pytest.raises(InputError) as error:
        listed(folder, verified)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_overwritten_bytes_are_found_by_digest_on_request(folder, capsys):
    assert len(listed(folder, verified=True)) == 8
    assert "verified  2 shards in" in capsys.readouterr().out
    shard = folder / "part-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[2000:6000] = bytes(4000)
    shard.write_bytes(content)
    assert len(listed(folder)) == 8
    assert "part-00001.parquet: damaged, or of another set: sha256" in refusal(folder, verified=True)


def test_a_shard_of_another_size_is_refused_by_its_bytes(folder):
    shard = folder / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "part-00000.parquet: damaged, or of another set: bytes" in refusal(folder)


def test_a_shard_with_other_rows_is_refused(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["shards"][0]["rows"] = 3
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "part-00000.parquet: damaged, or of another set: rows 4 instead of 3" in refusal(folder)


def test_a_shard_of_another_image_size_is_refused(tmp_path, folder):
    large = prepare(tmp_path / "large", size=64, first=100)
    (shard := folder / "part-00001.parquet").rename(tmp_path / "large" / "part-00001.parquet")
    large["shards"][1]["bytes"] = (tmp_path / "large" / shard.name).stat().st_size
    storage.write_json(f"{tmp_path}/large/{MANIFEST}", large)
    assert "pixel_bytes 3072 instead of 12288, says manifest.json; copy it again" in refusal(tmp_path / "large")


@pytest.mark.parametrize(
    ("junk", "words"),
    [
        (b"{", "manifest.json: is damaged"),
        (b"\xff\xfe", "manifest.json: is damaged"),
        (b"[" * 100_000, "manifest.json: is damaged (it is nested too deeply)"),
        ({"finished": None}, "manifest.json: is damaged (finished"),
        ({"settings": {"image_size": -1}}, "manifest.json: is damaged (settings.image_size"),
        ({"settings": []}, "manifest.json: is damaged (settings"),
        ({"shards": 3}, "manifest.json: is damaged (shards"),
        ({"shards": [{"name": "x"}]}, "manifest.json: is damaged (shards.0.rows"),
        ({"shards": [["part-00000.parquet"]]}, "manifest.json: is damaged (shards.0"),
    ],
    ids=str,
)
def test_junk_in_a_manifest_is_one_line(folder, junk, words):
    path = folder / MANIFEST
    path.write_bytes(junk if isinstance(junk, bytes) else json.dumps(json.loads(path.read_text()) | junk).encode())
    assert words in refusal(folder)


def test_another_programs_manifest_is_left_alone(tmp_path, folder):
    (folder / MANIFEST).write_text("[]")
    assert len(listed(folder)) == 8
    (tmp_path / "set-tree" / MANIFEST).write_text("{ // with a comment")
    assert len(listed(tmp_path / "set-tree")) == 8


def test_a_source_without_digests_is_named(tmp_path, folder, capsys):
    listed(tmp_path / "set-tree", verified=True)
    assert "set-tree has no manifest.json of `faceae prepare`: there are no digests" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Settings, PrepareSettings, EvaluateSettings])
def test_a_start_that_verifies_may_be_resumed_with_or_without_it(kind, tmp_path):
    given = ["model", "source"] if kind is EvaluateSettings else []
    again = [*given, "--run.name", "x", "--run.storage", str(tmp_path), "--run.resume"]
    for verify in ([], ["--data.verify"], ["--data.verify"], []):
        settings = cli.parse([*again, *verify], kind)
        assert settings.data.verify == bool(verify)
        RunFolder(settings).open()
