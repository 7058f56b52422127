"""Writes a file only if it is still as it was read, so that of several processes one succeeds.

S3 decides that itself (If-None-Match and If-Match, through obstore). For stores that do not, here or by way of pyarrow
(gs://), the file is read before and, after a moment, again: of two processes that write at nearly the same time one
finds that it has lost, unless a request takes longer than that moment.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from faceae.storage import files, stores

SETTLE_S = 1.0
"""Seconds after which a file that was written without a condition is read again."""


class Found(NamedTuple):
    """A file as it was read or written.

    Attributes:
        content: its content.
        tag: the store's name for this version of it (ETag); None if the store tells none.
    """

    content: bytes
    tag: str | None


def read(uri: str) -> Found | None:
    """Returns a file, or None if it does not exist.

    Raises:
        OSError: the storage failed.
    """
    if client := stores.s3_object(uri):
        try:
            found = obstore.get(*client)
            return Found(bytes(found.bytes()), found.meta["e_tag"])
        except FileNotFoundError:
            return None
        except Exception:  # pyarrow says what is wrong, or succeeds
            pass
    return _read_plain(uri)


def write(uri: str, content: bytes, before: Found | None) -> Found | None:
    """Writes a file if it is still as it was before; None stands for a file that does not exist.

    Returns:
        The file; None if it was another by now, and was not written.

    Raises:
        OSError: the storage failed.
    """
    client = stores.s3_object(uri)
    if client and (before is None or before.tag):
        try:
            written = obstore.put(*client, content, mode={"e_tag": before.tag} if before else "create")
            return Found(content, written["e_tag"])
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None
        except Exception:  # such as that of a server that knows no conditions
            pass
    if _content(uri) != (before and before.content):
        return None
    files.write(uri, content)
    time.sleep(SETTLE_S)
    return Found(content, None) if _content(uri) == content else None


def _read_plain(uri: str) -> Found | None:
    content = _content(uri)
    return None if content is None else Found(content, None)


def _content(uri: str) -> bytes | None:
    try:
        return files.read(uri)
    except FileNotFoundError:
        return None
