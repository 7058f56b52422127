"""Portraits as files, tables and archives."""

import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from faceae.data.reader import FaceSource, column_bytes, pixels_array, read_unit
from faceae.data.synthetic import portrait

SIZE = 32


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def read_all(entries, size=SIZE):
    """Runs the read tasks in this process; returns image_id -> pixels, or the reason why the image was rejected."""
    found = {}
    for unit in FaceSource(entries, size).units:
        for block in read_unit(unit, size):
            pixels = column_bytes(block, "pixels").reshape(-1, size, size, 3)
            for i, image_id in enumerate(block["image_id"].to_pylist()):
                found[image_id] = block["reason"][i].as_py() or pixels[i]
    return found


def write_parquet(path, kind, count=10, row_group=4):
    """Writes portraits as a table of one of four kinds; returns their pixels."""
    portraits = [portrait(number, SIZE) for number in range(count)]
    encoded = [png(Image.fromarray(image)) for image in portraits]
    names = [f"{number:05d}.png" for number in range(count)]
    columns = {
        "hugging face": {"image": [{"bytes": b, "path": n} for b, n in zip(encoded, names, strict=True)]},
        "binary": {"image_id": names, "image": pa.array(encoded, pa.large_binary())},
        "no ids": {"jpg": encoded},
        "decoded": {"image_id": names, "pixels": pixels_array(np.stack(portraits))},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns[kind]), path, row_group_size=row_group)
    return portraits


def zipped(files, methods=(zipfile.ZIP_STORED,), buffer=None, comment=b""):
    buffer = buffer or io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = comment
        for i, (name, content) in enumerate(files.items()):
            archive.writestr(name, content, methods[i % len(methods)])
    return buffer.getvalue()


def tarred(files, form=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
