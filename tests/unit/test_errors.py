"""Errors of any kind in one line."""

import pytest

from faceae.errors import one_line

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
