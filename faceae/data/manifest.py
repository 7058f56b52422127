"""The manifest of prepared images: names the Parquet shards of the set, so that missing ones are noticed."""

from __future__ import annotations

from collections.abc import Sequence

from pyarrow import ArrowException

from faceae import storage
from faceae.errors import InputError

MANIFEST = "manifest.json"
MADE_BY = "jobs/prepare.py"
"""The value of `made_by` in our manifests; other programs also write files named manifest.json."""


def prepared(folder: str, files: Sequence[str]) -> list[str]:
    """Returns the names of the shards in a folder that jobs/prepare.py wrote; an empty list for any other folder.

    Args:
        folder: URI of the folder.
        files: names of the files in it.

    Raises:
        InputError: the preparation is unfinished, a shard is missing, or the manifest cannot be read.
    """
    if MANIFEST not in files:
        return []
    try:
        manifest = storage.read_json(storage.join(folder, MANIFEST))
    except (OSError, ArrowException) as error:
        raise storage.explain(error, storage.join(folder, MANIFEST)) from None
    except ValueError:
        return []
    if not isinstance(manifest, dict) or manifest.get("made_by") != MADE_BY:
        return []
    storage_uri, name = folder.rsplit("/", 1)
    if not manifest["finished"]:
        again = f"faceae prepare --run.storage {storage_uri} --run.name {name} --run.resume"
        raise InputError(f"{folder}: the preparation of these images is unfinished; finish it with `{again}`")
    shards = [shard["name"] for shard in manifest["shards"]]
    if missing := sorted(set(shards) - set(files)):
        raise InputError(
            f"{folder}: {len(missing)} of its {len(shards)} shards are missing, such as {missing[0]}; copy them again"
        )
    return shards
