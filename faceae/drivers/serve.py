"""The driver of jobs/serve.py: a page and an address that restore pictures, until it is stopped."""

from __future__ import annotations

import importlib.util
import logging
import socket
import time

from faceae import config
from faceae.config.serve import ServeSettings
from faceae.console import out
from faceae.drivers.newest_model import newest_model
from faceae.errors import InputError, RunFailedError, one_line

_PACKAGES = ("fastapi", "grpc_reflection", "python_multipart", "watchfiles")


def serve(settings: ServeSettings) -> None:
    """Serves a model until Ctrl-C.

    Raises:
        InputError: the input is wrong, the port is taken, or the extra is not installed.
        RunFailedError: the service could not be started.
    """
    settings = config.validate(settings)
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"{missing[0]} is missing; install what a service needs: pip install 'faceae[serve]'")
    _check_free(settings.host, settings.port)
    chosen = newest_model(settings.model or None, "MODEL")
    if settings.task and chosen.model is None:
        raise InputError(f"--task {settings.task}: it is one of a model's tasks; name the model as MODEL")

    from ray import serve as ray_serve  # imported late: Ray and torch take seconds

    from faceae import models
    from faceae.cluster import connection
    from faceae.cluster.placement import resources
    from faceae.cluster.replicas import REPLICA_CPUS
    from faceae.serving.app import About, application

    model: models.Restorer | models.SurroundingsModel = models.SurroundingsModel()
    if chosen.model:
        try:
            model = models.load(chosen.model)
            model = model.for_task(settings.task) if settings.task else model
            model.check_servable()
        except InputError as error:
            raise InputError(f"MODEL {error}") from None
    name = chosen.model or "the network for scratches that comes with faceae"
    out.print(f"model     {name}{chosen.note if chosen.model else ', since ' + chosen.note}")
    connection.connect(settings.replicas * REPLICA_CPUS)
    gpus = 1.0 if resources()["GPU"] >= settings.replicas else 0.0
    cpus = 1 if gpus else REPLICA_CPUS
    if (room := int(resources()["CPU"] // cpus)) < settings.replicas:
        out.print(
            f"waiting   for machines: --replicas {settings.replicas} takes {settings.replicas * cpus} CPUs, and the "
            f"cluster has room for {room} now; the page comes when there is room for all"
        )
    task, whole = "inpaint", False
    if isinstance(model, models.Restorer):
        task, whole = model.settings.task_name, model.whole
    about = About(name, task, whole, settings.limit, settings.token)
    app = application(model, about, replicas=settings.replicas, gpus=gpus, cpus=cpus)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = {"log_level": logging.ERROR, "enable_access_log": False}
    options = {"host": settings.host, "port": settings.port, "request_timeout_s": settings.limit.seconds}
    try:
        ray_serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
        ray_serve.run(app, name="faceae", logging_config=quiet)
        where = "localhost" if settings.host == "127.0.0.1" else settings.host
        out.print(f"page      http://{where}:{settings.port}" + ("/?token=..." if settings.token else ""))
        out.print(f"programs  http://{where}:{settings.port}/docs; Ctrl-C stops the service")
        while True:
            time.sleep(3600)
    except RuntimeError as error:
        raise RunFailedError(f"the service did not start: {one_line(error)}") from None
    finally:
        ray_serve.shutdown()


def _check_free(host: str, port: int) -> None:
    """Raises InputError if the service cannot listen there: Ray Serve would say so in its log files only."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise InputError(f"--port {port} at --host {host}: {error.strerror}; choose another with --port") from None
