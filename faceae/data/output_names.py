"""Names the file to write for each picture of a source, below one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from faceae.data.images import EXTENSIONS
from faceae.data.metadata import FORMATS
from faceae.data.rejected import Rejected

_LONGEST_PART = 255
"""Largest number of bytes in one part of a path that file systems allow."""

_LONGEST = 900
"""Largest number of bytes in a path below the folder: S3 allows 1,024, with the folder's own."""


def output_names(
    image_ids: Sequence[str], reserved: Iterable[str] = (), *, own: bool = False
) -> tuple[dict[str, str], list[Rejected]]:
    """Names the file to write for each picture: its own name with the extension replaced by .png.

    Where that could be the name of another picture's file, .png follows the extension instead.

    Args:
        image_ids: names of the pictures; no two are equal.
        reserved: names of other files in the folder.
        own: whether a picture keeps its own name, if pictures are written in the format of its extension.

    Returns:
        The file for each picture, and the pictures that have none: those whose name leads out of the folder, cannot be
        that of a file, or differs from another's only in the way in which the path is written. No two files have the
        same path, and none would have to be a folder, too.
    """
    paths: dict[str, str] = {}  # by the path of a picture, its id
    rejected: list[Rejected] = []
    for image_id in image_ids:
        path = str(PurePosixPath(image_id))
        if reason := _unusable(image_id):
            rejected.append((image_id, reason))
        elif paths.setdefault(path, image_id) != image_id:
            rejected.append((image_id, f"it has the same path as {paths[path]}"))
    shared = Counter(map(stem, paths))
    long = {path: f"{path}.png" for path in paths}
    taken = set(long.values())
    names: dict[str, str] = {}
    for path, image_id in paths.items():
        keeps = own and PurePosixPath(path).suffix.lower() in FORMATS
        short = path if keeps else f"{stem(path)}.png"
        names[image_id] = short if (keeps or shared[stem(path)] == 1) and short not in taken else long[path]
    files = {*names.values(), *reserved}
    for image_id, name in list(names.items()):
        if reason := _unwritable(name, files):
            rejected.append((image_id, reason))
            del names[image_id]
    return names, rejected


def stem(path: str) -> str:
    """Returns a picture's path without the extension."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in EXTENSIONS else path


def _unusable(image_id: str) -> str | None:
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the folder"
    if not path.parts or "\0" in image_id:
        return "its name cannot be that of a file"
    return None


def _unwritable(name: str, files: set[str]) -> str | None:
    *folders, _ = PurePosixPath(name).parents  # without the last, "."
    if folder := next((str(folder) for folder in folders if str(folder) in files), None):
        return f"{folder} is a file, so that there cannot be a folder of that name"
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in name.split("/")):
        return f"its name is too long: {_LONGEST} bytes are allowed, with .png, and {_LONGEST_PART} between slashes"
    return None
