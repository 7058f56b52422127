"""The forms of URIs and paths, and of the names in them. Asks no store and no disk."""

from __future__ import annotations

import os
import re

from faceae.errors import CONTROL, InputError, redacted

_URI = re.compile(r"file:///|(?!file:)[A-Za-z][A-Za-z0-9+.-]+://[^/]")

CREDENTIALS = (
    "credentials do not belong in a URI, which is shown and saved; give them in the environment, for S3 as "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or as AWS_PROFILE"
)


def is_text(name: str) -> bool:
    """Returns whether a name is Unicode; Python stands in surrogates for the bytes of file names that are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    r"""Returns a name as text that can be printed and saved: bytes that are not UTF-8 become \xNN."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def is_remote(uri: str) -> bool:
    """Returns whether a URI names something that is not on this machine's own disk."""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> str:
    """Returns the absolute path of a local path or file:// URI."""
    return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))


def fault(uri: str) -> str | None:
    """Returns what is wrong with the form of a URI or path, and what to do, or None."""
    if redacted(uri) != uri:
        return CREDENTIALS
    if not uri.strip():
        return "it is empty; give a path or a URI"
    if CONTROL.search(uri) or not is_text(uri):
        return "it has a control character, or is not UTF-8; use another name"
    if (scheme := re.match(r"(s3|gs|hf)(?=:)|[A-Za-z][A-Za-z0-9+.-]+(?=:/)", uri)) and not _URI.match(uri):
        return f"it is no URI; write {scheme[0]}://{'/folder' if scheme[0] == 'file' else 'bucket/path'}"
    return None


def absolute(uri: str) -> str:
    """Returns a remote URI as it is, and a local path made absolute: workers do not share the driver's directory.

    Raises:
        InputError: the URI or path is badly formed or holds credentials.
    """
    if wrong := fault(uri):
        raise InputError(f"{redacted(uri)!r}: {wrong}")
    return uri.rstrip("/") if is_remote(uri) else local_path(uri)


def join(uri: str, *names: str) -> str:
    """Appends names to a URI or path."""
    return "/".join([uri.rstrip("/"), *names])
