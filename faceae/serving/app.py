"""The service behind Ray Serve: requests are read and answered in threads, and their pictures restored in batches."""

# Without `from __future__ import annotations`: Ray pickles the class by value, where FastAPI could not resolve them.

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import torch
from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from ray import serve
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceae.config.serve import Limits
from faceae.models import Restorer, SurroundingsModel
from faceae.serving import page, restoring
from faceae.serving.restoring import Refused, Restored, Work

_BATCH = 8  # pictures at a time; each has many windows, which the network sees in batches of its own
_WAIT_S = 0.01  # for more pictures to come
_COOKIE = "faceae_token"


class About(NamedTuple):
    """What a service is, for its page and /health.

    Attributes:
        model: where the model is, or what it is, for the page.
        task: what it does.
        limits: what it refuses.
        token: what people have to know to use it; None if everybody may.
    """

    model: str
    task: str
    limits: Limits
    token: str | None


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or wrong."},
    413: {"description": "The upload or the picture is too large."},
    415: {"description": "The file is no picture."},
    422: {"description": "The picture or its mask cannot be used; `error` says why and what to do."},
    500: {"description": "A process was lost; try again."},
    503: {"description": "Too many people are waiting; try again."},
}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in restoring.MEDIA_TYPES.values()}}}
_MASK_BACK: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}},
    204: {"description": "There are none."},
}

_Image = Annotated[UploadFile, File(description="PNG, JPEG, WebP, BMP, TIFF or GIF")]
_Mask = Annotated[UploadFile | None, File(description="white where the hole is; by default the black boxes are holes")]


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answers every error in the same form."""
    if isinstance(error, Refused):
        return JSONResponse({"error": str(error)}, error.status)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    assert isinstance(error, RequestValidationError)
    wrong = [f"{each['loc'][-1]}: {each['msg'].lower()}" for each in error.errors()]
    return JSONResponse({"error": "; ".join(wrong)}, 422)


@serve.deployment(max_ongoing_requests=2 * _BATCH, max_queued_requests=64, health_check_period_s=2)
@serve.ingress()
class Service:
    """A copy of the model in its own process."""

    def __init__(self, model: Restorer | SurroundingsModel, about: About, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.about = model.to(device), about
        self.whole = isinstance(model, Restorer) and model.whole

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Returns what answers requests; called by Ray Serve after the constructor."""
        self.api = api = FastAPI(
            title="faceae",
            summary="Restores faces in photographs: pictures in, pictures out. Nothing is kept.",
            docs_url=None,  # FastAPI's own pages load scripts from elsewhere
            redoc_url=None,
            exception_handlers=dict.fromkeys((Refused, HTTPException, RequestValidationError), _refuse),
        )
        for path, show in (("/", self.show), ("/docs", self.document)):
            api.add_api_route(path, show, response_class=HTMLResponse, include_in_schema=False)
        api.add_api_route("/health", self.health)
        picture: dict[str, Any] = {"response_class": Response, "methods": ["POST"]}
        api.add_api_route("/restore", self.restore, responses=_PICTURE | _REFUSALS, **picture)
        api.add_api_route("/holes", self.holes, responses=_MASK_BACK | _REFUSALS, **picture)
        return Guard(api, self.about.token, self.about.limits.megabytes)

    async def show(self) -> HTMLResponse:
        """The page for people."""
        return HTMLResponse(page.render(self.about, whole=self.whole))

    async def document(self, request: Request) -> HTMLResponse:
        """The page for programmers."""
        return HTMLResponse(page.render_docs(self.api.openapi(), str(request.base_url)))

    async def health(self) -> dict[str, Any]:
        """Says that the service works, what it does, and what it refuses; the only answer that needs no token."""
        limits = self.about.limits
        told = {"max_megabytes": limits.megabytes, "max_megapixels": limits.megapixels}
        return {"status": "ok", "task": self.about.task, **told}

    async def restore(self, image: _Image, mask: _Mask = None) -> Response:
        """Restores a picture: sends it back at its own size, and in its own format if that is one of ours."""
        given = await image.read(), image.filename or "", None if mask is None else await mask.read()
        megapixels = self.about.limits.megapixels
        work = await asyncio.to_thread(restoring.read, *given, whole=self.whole, megapixels=megapixels)
        made = await self._restored(work)
        if isinstance(made, Refused):
            raise made
        return Response(made.content, media_type=made.media_type)

    async def holes(self, image: _Image) -> Response:
        """Finds the black boxes of a picture: sends back a mask that is white where they are, or nothing."""
        found = await asyncio.to_thread(restoring.holes, await image.read(), self.about.limits.megapixels)
        return Response(found.content, media_type=found.media_type) if found else Response(status_code=204)

    @serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=_WAIT_S)
    async def _restored(self, works: list[Work]) -> list[Restored | Refused]:
        return await asyncio.to_thread(restoring.restore, self.model, works)


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


def application(
    model: Restorer | SurroundingsModel, about: About, *, replicas: int, gpus: float, cpus: float
) -> serve.Application:
    """Returns the application for `ray.serve.run`.

    Args:
        model: the model.
        about: what the service is.
        replicas: copies of the model.
        gpus: GPUs of each copy.
        cpus: CPU cores of each copy, and threads of its arithmetic.
    """
    deployment: Any = Service  # Ray's decorators have no types
    each = deployment.options(num_replicas=replicas, ray_actor_options={"num_cpus": cpus, "num_gpus": gpus})
    bound: serve.Application = each.bind(model, about, "cuda" if gpus else "cpu", max(1, int(cpus)))
    return bound
