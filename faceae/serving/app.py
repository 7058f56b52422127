"""The service behind Ray Serve: what it answers at its addresses; its replicas restore the pictures."""

# Without `from __future__ import annotations`: Ray pickles the class by value, where FastAPI could not resolve them.

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import FastAPI, File, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from faceae.config.serve import Limits
from faceae.ray_compat import HEAD_RESOURCE
from faceae.serving import page
from faceae.serving.answers import MEDIA_TYPES, Refused, Restored, Upload
from faceae.serving.guard import Guard

if TYPE_CHECKING:
    from faceae.models import Restorer, SurroundingsModel

_MOST = 1000  # requests at a time; the replicas refuse their uploads much earlier
_BESIDE_THE_PROXY = {"num_cpus": 0, "resources": {HEAD_RESOURCE: 0.001}}


class About(NamedTuple):
    """What a service is, for its page and /health.

    Attributes:
        model: where the model is, or what it is, for the page.
        task: what it does.
        whole: whether it changes whole pictures and fills no holes.
        limits: what it refuses.
        token: what people have to know to use it; None if everybody may.
    """

    model: str
    task: str
    whole: bool
    limits: Limits
    token: str | None


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or wrong."},
    413: {"description": "The upload or the picture is too large."},
    415: {"description": "The file is no picture."},
    422: {"description": "The picture or its mask cannot be used; `error` says why and what to do."},
    503: {"description": "Too many people are waiting, or a process was lost; try again."},
}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}}
_MASK_BACK: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}},
    204: {"description": "There are none."},
}

_Image = Annotated[UploadFile, File(description="PNG, JPEG, WebP, BMP, TIFF or GIF")]
_Mask = Annotated[UploadFile | None, File(description="white where the hole is; by default the black boxes are holes")]


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """Answers every error in the same form."""
    if isinstance(error, Refused):
        soon = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, soon)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    assert isinstance(error, RequestValidationError)
    wrong = [f"{each['loc'][-1]}: {each['msg'].lower()}" for each in error.errors()]
    return JSONResponse({"error": "; ".join(wrong)}, 422)


@serve.deployment(max_ongoing_requests=_MOST, health_check_period_s=2, ray_actor_options=_BESIDE_THE_PROXY)
@serve.ingress()
class Service:
    """What a client talks to. A process without the model, so that it outlives a replica that a picture breaks."""

    def __init__(self, replicas: DeploymentHandle, about: About) -> None:
        self.replicas, self.about = replicas, about
        self.ready = False

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
        return HTMLResponse(page.render(self.about))

    async def document(self, request: Request) -> HTMLResponse:
        """The page for programmers."""
        return HTMLResponse(page.render_docs(self.api.openapi(), str(request.base_url)))

    async def health(self) -> dict[str, Any]:
        """Says that the service works, what it does, and what it refuses; the only answer that needs no token."""
        if not self.ready:
            await _answer(self.replicas.wait.remote())  # only once: it would wait behind all pictures
            self.ready = True
        limits = self.about.limits
        told = {"max_megabytes": limits.megabytes, "max_megapixels": limits.megapixels}
        return {"status": "ok", "task": self.about.task, **told}

    async def restore(self, image: _Image, mask: _Mask = None) -> Response:
        """Restores a picture: sends it back at its own size, and in its own format if that is one of ours."""
        upload = Upload(await image.read(), image.filename or "", None if mask is None else await mask.read())
        restored = await _answer(self.replicas.restore.remote(upload))
        assert restored
        return Response(restored.content, media_type=restored.media_type)

    async def holes(self, image: _Image) -> Response:
        """Finds the black boxes of a picture: sends back a mask that is white where they are, or nothing."""
        found = await _answer(self.replicas.holes.remote(Upload(await image.read())))
        return Response(found.content, media_type=found.media_type) if found else Response(status_code=204)


async def _answer(response: DeploymentResponse) -> Restored | None:
    """Waits for a replica.

    Raises:
        Refused: the upload cannot be used, or there is no replica for it. An upload whose replica was lost is not tried
            again here: it may be what broke it.
    """
    try:
        answer: Restored | Refused | None = await response
    except BackPressureError:
        raise Refused(503, "too many people are waiting; try again") from None
    except (RayActorError, RayServeException):
        raise Refused(503, "the process that restored the picture was lost; try again") from None
    if isinstance(answer, Refused):
        raise answer
    return answer


def application(
    model: "Restorer | SurroundingsModel", about: About, *, replicas: int, gpus: float, cpus: float
) -> serve.Application:
    """Returns the application for `ray.serve.run`.

    Args:
        model: the model.
        about: what the service is.
        replicas: copies of the model.
        gpus: GPUs of each copy.
        cpus: CPU cores of each copy, and threads of its arithmetic.
    """
    from faceae.serving.replica import Replica  # with torch, which the process of `Service` does without

    each = {"num_replicas": replicas, "ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus}}
    service: Any = Service  # Ray's decorators have no types
    replica: Any = Replica
    copies = replica.options(**each).bind(
        model, "cuda" if gpus else "cpu", max(1, int(cpus)), about.whole, about.limits.megapixels
    )
    application: serve.Application = service.bind(copies, about)
    return application
