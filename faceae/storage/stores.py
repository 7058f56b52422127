"""The stores behind URIs: their filesystems and clients, how long a request may take, and what their errors mean.

Credentials, region and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL,
instance roles, ...), so that no secret passes through a setting, a log or an object of this project.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
from datetime import timedelta
from pathlib import Path

from obstore.store import S3Store
from pyarrow import ArrowException
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem
from tenacity import RetryCallState, retry, retry_if_exception, stop_after_delay, wait_exponential_jitter

from faceae.errors import InputError, redacted
from faceae.storage.uris import CREDENTIALS, is_remote, is_text, local_path, shown

logger = logging.getLogger("faceae.storage")

OUTAGE_RETRY_S = 120
"""Seconds for which requests to a store are retried: enough to restart a server or to repair a network."""

SILENCE_S = 6
"""Seconds without a byte after which a request counts as lost. A slow transfer of any length goes on."""

_LOCAL = LocalFileSystem()

_S3_HINTS = {
    "NO_SUCH_BUCKET": "the bucket does not exist",
    "INVALID_ACCESS_KEY_ID": "the server does not know the access key; check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the credentials are wrong; check AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "access is denied; check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_PROFILE) and their permissions on the bucket",
    "NETWORK_CONNECTION": "the server cannot be reached; check AWS_ENDPOINT_URL and the network",
}


def resolve(uri: str) -> tuple[FileSystem, str]:
    """Returns the filesystem of a URI or local path, and the path on that filesystem.

    Raises:
        InputError: the scheme is unknown, its support is not installed, or the URI holds credentials.
    """
    if not is_text(uri):
        raise InputError(f"{shown(uri)}: the path is not UTF-8; rename it")
    if not is_remote(uri):
        return _LOCAL, local_path(uri)
    address, _, _ = uri.partition("?")  # what follows may be a part of an object's name
    if redacted(address) != address:
        raise InputError(f"{redacted(uri)}: {CREDENTIALS}")
    scheme, rest = uri.split("://", 1)
    bucket, _, key = rest.strip("/").partition("/")
    try:
        filesystem, base = _filesystem(f"{scheme}://{bucket}")
    except (ArrowException, ImportError, ValueError, OSError) as error:
        raise explain(error, uri) from None
    return filesystem, f"{base}/{key}".rstrip("/")


@functools.cache  # a new client has to ask the store for the bucket's region
def _filesystem(bucket_uri: str) -> tuple[FileSystem, str]:
    filesystem, base = FileSystem.from_uri(bucket_uri)  # in AWS, it asks for the bucket's region
    if not isinstance(filesystem, S3FileSystem):
        return filesystem, base
    # from_uri takes no time limits; a server that accepts and never answers would be asked for 100 s.
    limited = S3FileSystem(
        region=filesystem.region,
        endpoint_override=_endpoint(),
        connect_timeout=SILENCE_S,
        request_timeout=SILENCE_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
    )
    return limited, base


def _endpoint() -> str | None:
    """Returns the address of an S3 server that is not AWS'."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


@functools.cache
def s3_client(bucket: str) -> S3Store | None:
    """Returns obstore's client; None where it would not find the credentials that pyarrow's finds."""
    folder = Path("~/.aws").expanduser()
    in_files = bool({"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} & os.environ.keys())
    in_files = in_files or any((folder / name).exists() for name in ("credentials", "config"))
    if in_files and "AWS_ACCESS_KEY_ID" not in os.environ:
        return None
    filesystem, _ = _filesystem(f"s3://{bucket}")  # it has asked for the bucket's region
    return S3Store(
        bucket,
        region=filesystem.region,
        client_options={
            "allow_http": True,
            "read_timeout": timedelta(seconds=SILENCE_S),
            "timeout": timedelta(hours=1),
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
    )


def s3_object(uri: str) -> tuple[S3Store, str] | None:
    """Returns obstore's client for an object in S3, and its key; None for what only pyarrow can reach."""
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    client = s3_client(bucket) if scheme == "s3" and "@" not in bucket else None
    return (client, key) if client else None


def explain(error: Exception, uri: str) -> InputError:
    """Returns a filesystem's error as an InputError of one line: what is wrong, where, and what to do."""
    text = redacted(" ".join(str(error).split()))
    if code := re.search(r"AWS Error (\w+)", text):
        reason = _S3_HINTS.get(code[1], text)
        if "HTTP status 403" in text:
            reason = _S3_HINTS["ACCESS_DENIED"]
    elif is_remote(uri) and "Access Denied" in text:  # of several objects that were to be deleted at once
        reason = _S3_HINTS["ACCESS_DENIED"]
    elif "Bucket '" in text and "not found" in text:
        reason = _S3_HINTS["NO_SUCH_BUCKET"]
    elif isinstance(error, FileNotFoundError):
        reason = "it does not exist; check the path"
    elif isinstance(error, PermissionError):
        reason = "access is denied; check its permissions"
    else:
        reason = text
    where = f"{uri} (at {_endpoint()})" if uri.startswith("s3://") and _endpoint() else uri
    return InputError(f"{redacted(where)}: {reason}")


def is_refusal(error: OSError) -> bool:
    """Returns whether a disk or a store refuses to be written: it is full, broken or read-only, or denies access."""
    broken = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
    return error.errno in broken or "AWS Error" in str(error)


def _is_outage(error: BaseException) -> bool:
    """Returns whether an error may be temporary: a failed connection, or a server that is starting, busy or broken."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError | PermissionError):
        return False
    if "HTTP status 403" in (text := str(error)):
        return False
    code = re.search(r"AWS Error (\w+)", text)
    return bool(code and (code[1] not in _S3_HINTS or code[1] == "NETWORK_CONNECTION"))


def _log_outage(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        error, uri = state.outcome.exception(), state.args[0]
        logger.warning("%s; trying again for %d s", explain(error, uri), OUTAGE_RETRY_S)  # type: ignore[arg-type]


retry_outages = retry(
    retry=retry_if_exception(_is_outage),
    wait=wait_exponential_jitter(multiplier=0.5, max=5),
    stop=stop_after_delay(OUTAGE_RETRY_S),
    before_sleep=_log_outage,
    reraise=True,
)
"""Decorates a function whose first argument is a URI: retries it while the store does not answer."""
