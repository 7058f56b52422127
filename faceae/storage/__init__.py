"""Files at local paths and s3://, gs://, hf:// URIs, through pyarrow's filesystems."""

from faceae.storage.files import (
    bucket_exists,
    delete,
    delete_folder,
    exists,
    info,
    list_files,
    read,
    read_json,
    read_lines,
    stamps,
    write,
    write_json,
    write_lines,
)
from faceae.storage.local_files import is_partial
from faceae.storage.stores import explain, logger, resolve, retry_outages, s3_client
from faceae.storage.uris import absolute, fault, is_remote, is_text, join, shown

__all__ = [
    "absolute",
    "bucket_exists",
    "delete",
    "delete_folder",
    "exists",
    "explain",
    "fault",
    "info",
    "is_partial",
    "is_remote",
    "is_text",
    "join",
    "list_files",
    "logger",
    "read",
    "read_json",
    "read_lines",
    "resolve",
    "retry_outages",
    "s3_client",
    "shown",
    "stamps",
    "write",
    "write_json",
    "write_lines",
]
