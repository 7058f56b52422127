"""The manifest of prepared images: which Parquet shards belong to the set, and whether all of them are there."""

from __future__ import annotations

from collections.abc import Sequence

from pyarrow import ArrowException

from faceae import storage
from faceae.errors import InputError

MANIFEST = "manifest.json"
MADE_BY = "jobs/prepare.py"
"""What `made_by` says in a manifest of ours; other programs write a manifest.json, too."""


def prepared(folder: str, files: Sequence[str]) -> list[str]:
    """The shards of a folder that jobs/prepare.py wrote; none, if it is another's.

    Args:
        folder: URI.
        files: that are in it.

    Raises:
        InputError: preparing it was not finished, or a shard is missing.
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
        again = f"python {MADE_BY} --run.storage {storage_uri} --run.name {name} --run.resume"
        raise InputError(f"{folder}: these images are not prepared to the end; finish with `{again}`")
    shards = [shard["name"] for shard in manifest["shards"]]
    if missing := sorted(set(shards) - set(files)):
        raise InputError(
            f"{folder}: {len(missing)} of its {len(shards)} shards are missing, {missing[0]} for one; copy them again"
        )
    return shards
