"""Errors of any kind in one line."""

import pytest

from faceae.errors import one_line, redacted

TASK = """\x1b[36mray::Map()\x1b[39m (pid=1, ip=127.0.0.1)
  File "reader.py", line 1, in read
OSError: [Errno 28] No space left on device: '/runs'
To retry, see ray.data.DataContext"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError(TASK), "[Errno 28] No space left on device: '/runs'"),
        (RuntimeError("ray.exceptions.RayTaskError: it\n  KeyError: 'x'\n"), "KeyError: 'x'"),
        (RuntimeError("two\nlines\n\n"), "lines"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("http://name:password@server/path is away"), "http://server/path is away"),
    ],
    ids=["of a task", "the innermost", "the last line", "without a message", "credentials"],
)
def test_the_one_line_is_the_cause(error, words):
    assert one_line(error) == words


def test_a_long_error_is_shortened():
    assert len(one_line(ValueError("x" * 10_000))) < 500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SEC/RET@bucket/a@b", "s3://bucket/a@b"),
        ("s3://KEY@bucket", "s3://bucket"),
        ("http://user:p@ss@host/x@y", "http://host/x@y"),
        ("http://user:1234@host:80/x", "http://host:80/x"),
        ("https://TOKEN@host/", "https://host/"),
        ("postgresql://user:password@host/db", "postgresql://host/db"),
        ("s3://b?access_key=KEY&secret_key=SECRET&region=x", "s3://b?access_key=&secret_key=&region=x"),
        (
            "GET https://b/x?X-Amz-Credential=a&X-Amz-Signature=f gave 403",
            "GET https://b/x?X-Amz-Credential=&X-Amz-Signature= gave 403",
        ),
        ("https://account.blob/x?se=1&sig=abc", "https://account.blob/x?se=1&sig="),
    ],
)
def test_credentials_in_uris_are_not_shown(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("s3://bucket/a@b", "s3://bucket/k:1/x@y", "hf://datasets/owner/name@main/x", "gs://anonymous@bucket/x"),
        *(
            "abfss://container@account.dfs/x",
            "(at http://127.0.0.1:80): x@y",
            "http://host:8080/a@b",
            "s3://b/token=1/x",
        ),
    ],
)
def test_what_is_no_credential_is_shown(text):
    assert redacted(text) == text
