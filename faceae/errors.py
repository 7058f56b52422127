"""The two kinds of error that end a job, and how an error is shown in one line."""

from __future__ import annotations

import re

RESUMABLE = "what was saved before is intact: fix this and continue with --run.resume"
"""What to do after a write that a disk or a store refused."""

_CAUSE = re.compile(r"(?!ray\.)(?:\w+\.)*(\w*(?:Error|Exception)): (.+)")
_NO_MEMORY = re.compile(r"Memory on the node \(IP: ([^,)]+).*?\) was (.+?) used / (.+?) limit")  # as Ray puts it
_SELF_EXPLANATORY = {"OSError", "InputError", "RunFailedError"}
_USER = re.compile(
    r"\b(https?://|s3://)[^/\s]+@"  # a name or a token, with or without a password
    # name:password@ of any scheme, but not host:port/...@...; AWS' secret keys may contain slashes
    r"|(://)[^/@:\s]*:(?!\d+(?:[^\w@]|$))(?:[^/\s]*|[^@\s]*)@"
)
_PARAMETER = re.compile(  # pyarrow's and MLflow's own, and those of presigned URLs
    r"([?&](?:access_key|secret_key|session_token|password|token|sig|signature|awsaccesskeyid"
    r"|x-(?:amz|goog)-(?:signature|credential|security-token))=)[^&\s'\"]+",
    re.IGNORECASE,
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # line breaks, and what a terminal would take as a command
_LONGEST = 400  # characters of a cause
_LONGEST_MESSAGE = 1500  # characters


class _LineError(Exception):
    """An error whose message is one line, whatever names of files or parts of their content it quotes."""

    def __init__(self, message: str) -> None:
        text = CONTROL.sub(" ", message)
        super().__init__(text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}...")


class InputError(_LineError):
    """The user's input is wrong: a path, a flag, a credential, the data.

    The message is one line that says what is wrong, where, and what to do. The jobs print it without a
    traceback and exit with code 2.
    """


class RunFailedError(_LineError):
    """The run failed although the input was right. The jobs print the message and exit with code 1."""


def redacted(text: str) -> str:
    """Returns a text without the credentials in its URIs: `name:password@`, and parameters such as `secret_key`."""
    return _PARAMETER.sub(r"\1", _USER.sub(r"\1\2", text))


def one_line(error: BaseException) -> str:
    """Returns the innermost cause of an error in one line.

    Leaves out the tracebacks and advice that Ray adds, and credentials that an address may contain.
    """
    if memory := _NO_MEMORY.search(str(error)):
        node, used, limit = memory.groups()
        return f"the memory of {node} ran out ({used} of {limit} used), and Ray killed a worker"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [match for line in lines if (match := _CAUSE.match(line))]
    if causes:
        kind, text = causes[-1].groups()
        text = text if kind in _SELF_EXPLANATORY else f"{kind}: {text}"
    else:
        text = lines[-1] if lines else type(error).__name__
    text = redacted(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
