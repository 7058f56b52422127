"""Writes a file only if it is still as it was read, so that of several processes one succeeds.

S3 decides that itself (If-None-Match and If-Match, through obstore). For stores that do not, here or by way of pyarrow
(gs://), the file is read before and, after a moment, again: of two processes that write at nearly the same time one
finds that it has lost, unless a request takes longer than that moment.
"""

from __future__ import annotations

import hashlib
import time

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from faceae import storage

SETTLE_S = 1.0
"""Seconds after which a file that was written without a condition is read again."""


def read(uri: str) -> tuple[bytes, str] | None:
    """Returns the content of a remote file and its version, or None if it does not exist.

    Raises:
        OSError: the storage failed.
    """
    if client := _client(uri):
        try:
            found = obstore.get(*client)
            if version := found.meta["e_tag"]:
                return bytes(found.bytes()), version
        except FileNotFoundError:
            return None
        except Exception:  # pyarrow says what is wrong, or succeeds
            pass
    return _read_plain(uri)


def write(uri: str, content: bytes, version: str | None) -> str | None:
    """Writes a remote file if it still has this version; None stands for a file that does not exist.

    Returns:
        The new version; None if the file is another by now, and was not written.

    Raises:
        OSError: the storage failed.
    """
    if client := _client(uri):
        try:
            return obstore.put(*client, content, mode={"e_tag": version} if version else "create")["e_tag"]
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None
        except Exception:  # such as a server that knows no conditions
            pass
    found = _read_plain(uri)
    if (found and found[1]) != version:
        return None
    storage.write(uri, content)
    time.sleep(SETTLE_S)
    found = _read_plain(uri)
    return found[1] if found and found[0] == content else None


def _client(uri: str) -> tuple[S3Store, str] | None:
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    client = storage.s3_client(bucket) if scheme == "s3" else None
    return (client, key) if client else None


def _read_plain(uri: str) -> tuple[bytes, str] | None:
    try:
        content = storage.read(uri)
    except FileNotFoundError:
        return None
    return content, hashlib.sha256(content).hexdigest()
