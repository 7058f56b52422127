"""Files at local paths and s3://, gs://, hf:// URIs, through pyarrow's filesystems."""

from faceae.storage.files import (
    check_bucket,
    delete,
    delete_folder,
    exists,
    info,
    list_files,
    read,
    read_json,
    read_lines,
    read_object,
    stamps,
    write,
    write_json,
    write_lines,
)
from faceae.storage.local_files import is_partial
from faceae.storage.stores import explain, is_refusal, logger, resolve, retry_outages
from faceae.storage.uris import absolute, fault, is_remote, is_text, join, shown

__all__ = [
    "absolute",
    "check_bucket",
    "delete",
    "delete_folder",
    "exists",
    "explain",
    "fault",
    "info",
    "is_partial",
    "is_refusal",
    "is_remote",
    "is_text",
    "join",
    "list_files",
    "logger",
    "read",
    "read_json",
    "read_lines",
    "read_object",
    "resolve",
    "retry_outages",
    "shown",
    "stamps",
    "write",
    "write_json",
    "write_lines",
]
