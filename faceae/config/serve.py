"""The settings of jobs/serve.py."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from typing import Annotated, ClassVar

from pydantic import Field
from tyro.conf import Positional, arg

from faceae.config.base import Count, JobSettings, Strict, UriOrEmpty
from faceae.config.tasks import TaskName
from faceae.errors import InputError

TOKEN = "FACEAE_TOKEN"
"""The environment variable that holds what people have to know to use a service that others can reach."""

_SHORTEST = 16  # characters of a token


@dataclasses.dataclass(frozen=True)
class Limits(Strict):
    """What a service refuses. It keeps nothing of what it is sent."""

    megabytes: Annotated[float, Field(gt=0, le=1000)] = 40.0
    """Largest size of an upload, picture and mask together."""
    megapixels: Annotated[float, Field(gt=0, le=100)] = 40.0
    """Largest picture, in millions of pixels."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Longest time for one picture."""


@dataclasses.dataclass(frozen=True)
class ServeSettings(JobSettings):
    """All settings of jobs/serve.py."""

    model: Annotated[Positional[UriOrEmpty], arg(metavar="MODEL", help_behavior_hint="")] = ""
    """The saved model: the folder model/ of a run or a grid, local or s3://bucket/path. By default the newest of
    out/*/model; if there is none, a network for scratches that comes with faceae and knows nothing of faces."""
    task: TaskName | None = None
    """Of a model of several tasks: which one to do."""
    port: Annotated[int, Field(gt=0, lt=65536)] = 8000
    """Port to listen on."""
    host: str = "127.0.0.1"
    """Address to listen on; by default only this machine can reach it. For any other, such as 0.0.0.0, set the
    environment variable FACEAE_TOKEN: people then need it to use the service."""
    replicas: Count = 1
    """Copies of the model. Each takes a GPU if the cluster has any, otherwise two CPU cores."""
    limit: Limits = dataclasses.field(default_factory=Limits)

    RESUME_HINT: ClassVar[str] = "the service has stopped"
    POSITIONAL: ClassVar[dict[str, str]] = {"--model": "MODEL"}

    @property
    def token(self) -> str | None:
        """What people have to know to use the service, from the environment; None if everybody may."""
        return os.environ.get(TOKEN) or None

    def check(self) -> None:
        """Raises InputError if others could use the service without a token, or with one that can be guessed."""
        if not self.token and not _is_this_machine(self.host):
            raise InputError(
                f"--host {self.host}: others could use the service; set {TOKEN} to a secret of at least {_SHORTEST} "
                f"characters, for example: export {TOKEN}=$(openssl rand -hex 16)"
            )
        if self.token and len(self.token) < _SHORTEST:
            raise InputError(f"{TOKEN}: it is shorter than {_SHORTEST} characters; openssl rand -hex 16 makes one")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
