"""Parquet files and manifests: each image is pixels or a line, and each file is listed or refused in one line."""

import functools
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import assert_line, changed, contract, examples, mutated, trees
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import SIZE, read_all, write_parquet

from faceae.data import frozen_masks
from faceae.data.manifest import MADE_BY, MANIFEST, Shard, prepared
from faceae.data.sources import list_sources
from faceae.errors import InputError

SEEDS = Path(__file__).parent / "seeds"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@functools.cache
def tables():
    """Returns Parquet files of every kind that is read, compressed in several ways."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.parquet"
        for kind in ("hugging face", "binary", "no ids", "decoded"):
            write_parquet(path, kind, count=4, row_group=2)
            table = pq.read_table(path)
            for options in ({"compression": "none", "write_statistics": False}, {"compression": "snappy"}):
                pq.write_table(table, path, row_group_size=2, **options)
                found.append(path.read_bytes())
        pq.write_table(pa.table({"image": [b"x", None], "path": ["a", None]}), path, compression="zstd")
        return [*found, path.read_bytes()]


@st.composite
def files(draw):
    """Changes the pages, or the footer, where nearly every byte matters."""
    content = draw(st.sampled_from(tables()))
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if draw(st.booleans()):
        return content[:footer] + draw(mutated([content[footer:]]))
    return draw(mutated([content[:footer]])) + content[footer:]


@examples(few=200, many=2000)
@given(files())
@example((SEEDS / "a-page-with-fewer-images-than-the-footer-says.parquet").read_bytes())
def test_every_parquet_file_is_read_or_refused(folder, content):
    path = folder / "a.parquet"
    path.write_bytes(content)
    with contract(InputError):
        entries = list_sources([str(path)], "--data.source").entries
        for found in read_all(entries).values():
            if isinstance(found, str):
                assert_line(found)
            else:
                assert found.shape == (SIZE, SIZE, 3)


@functools.cache
def mask_files():
    """Returns files of masks of two sizes, whole and in small row groups."""
    rows = [frozen_masks.row(f"{n}.png", "box", n or None, 0, 8, 8 + n, bytes([1]) + bytes(7 + n)) for n in range(9)]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/masks.parquet"
        frozen_masks.write(path, pa.Table.from_pylist(rows, frozen_masks.SCHEMA))
        whole = Path(path).read_bytes()
        pq.write_table(pq.read_table(path), path, row_group_size=2, compression="none", use_dictionary=False)
        return [whole, Path(path).read_bytes()]


@examples(few=100, many=2000)
@given(st.deferred(lambda: mutated(mask_files())))
def test_every_file_of_masks_is_read_or_refused(folder, content):
    path = folder / "masks.parquet"
    path.write_bytes(content)
    with contract(InputError):
        for row in frozen_masks.read(str(path)).to_pylist():
            assert frozen_masks.unpacked(row).any()


kinds = st.recursive(
    st.sampled_from([pa.string(), pa.binary(), pa.binary(3072), pa.int64(), pa.null(), pa.float32(), pa.date32()]),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.dictionaries(st.sampled_from(["bytes", "path", "a.b", ""]), inner, min_size=1).map(
            lambda f: pa.struct([*f.items()])
        ),
    ),
    max_leaves=4,
)
columns = st.dictionaries(
    st.one_of(st.sampled_from(["image", "pixels", "image_id", "path", "bytes", "__key__"]), st.text(max_size=5)), kinds
)


@examples(few=60, many=750)
@given(columns, st.integers(0, 3))
def test_columns_of_any_type_are_read_or_refused(folder, columns, rows):
    path = folder / "b.parquet"
    schema = pa.schema([*columns.items()])
    try:
        pq.write_table(pa.Table.from_pylist([{}] * rows, schema), path)
    except pa.ArrowException:
        return
    with contract(InputError):
        for found in read_all(list_sources([str(path)], "--data.source").entries).values():
            assert_line(found)


WHOLE = {
    "made_by": MADE_BY,
    "finished": True,
    "settings": {"source": ["x"], "image_size": 32, "limit": None},
    "counts": {"images": 4},
    "shards": [{"name": f"part-0000{n}.parquet", "rows": 2, "bytes": 99, "sha256": "0" * 64} for n in range(2)],
}
FILES = [MANIFEST, *(shard["name"] for shard in WHOLE["shards"])]


@examples(few=150, many=2000)
@given(
    st.one_of(
        mutated([json.dumps(WHOLE).encode()]), st.one_of(changed(WHOLE), trees).map(lambda t: json.dumps(t).encode())
    )
)
def test_every_manifest_is_read_or_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with contract(InputError):
        for name, shard in prepared(str(folder), FILES).items():
            assert name in FILES
            assert isinstance(shard, Shard)
            with contract(InputError):
                shard.check(name, "rows", 1)
