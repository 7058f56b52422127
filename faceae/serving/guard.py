"""What a service refuses before it reads a request: strangers, and uploads that are too large."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "faceae_token"


class Guard:
    """Refuses requests without the token, and uploads that are too large before they are read to their end."""

    def __init__(self, app: ASGIApp, token: str | None, megabytes: float) -> None:
        self.app, self.token, self.bytes = app, token, int(megabytes * 1e6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if self.token and scope["path"] != "/health" and (answer := self._unknown(request)):
            await answer(scope, receive, send)
            return
        too_large = JSONResponse({"error": f"the upload is larger than {self.bytes / 1e6:g} MB"}, 413)
        if int(request.headers.get("content-length") or 0) > self.bytes:
            await too_large(scope, receive, send)
            return
        await self.app(scope, _counting(receive, self.bytes), send)

    def _unknown(self, request: Request) -> Response | None:
        """Returns the answer to a request without the token; None if it has it."""
        assert self.token
        kind, _, said = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(said.encode(), self.token.encode()):
            return None
        if hmac.compare_digest(request.cookies.get(_COOKIE, "").encode(), self.token.encode()):
            return None
        if hmac.compare_digest(request.query_params.get("token", "").encode(), self.token.encode()):
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(_COOKIE, self.token, httponly=True, samesite="strict")
            return answer
        return JSONResponse(
            {"error": "the token is missing or wrong: send it as 'Authorization: Bearer ...', or open /?token=..."}, 401
        )


def _counting(receive: Receive, most: int) -> Callable[[], Awaitable[Message]]:
    """Returns the same, which fails once more than this many bytes have come: a client may not say how many will."""
    come = 0

    async def counted() -> Message:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > most:
            raise HTTPException(413, f"the upload is larger than {most / 1e6:g} MB")
        return message

    return counted
