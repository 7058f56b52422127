"""A tree of settings: what every group of them has in common, and how one is read, checked and written."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from faceae.errors import InputError


class Strict:
    """A group of settings: an unknown one is an error."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class JobSettings(Strict):
    """All settings of a job; those of other jobs than training stand in `faceae.config.jobs`."""

    RESUME_HINT: ClassVar[str] = "--run.resume with the same --run.name goes on from where it stopped"
    """What the job says when it is interrupted."""

    def check(self) -> None:
        """Raises InputError if values cannot go together."""


class RunSettings(JobSettings, abc.ABC):
    """Those of a job that makes a folder of its own each time."""

    data: Any
    run: Any

    FREE_ON_RESUME: ClassVar[frozenset[str]]
    """What may differ between a run and its continuation: nothing that the result so far depends on."""
    SOURCE: ClassVar[str] = "--data.source"
    """What the images are called on the command line."""

    @property
    @abc.abstractmethod
    def makes(self) -> str:
        """What the run makes, for its default name."""

    def check(self) -> None:
        """Raises InputError if there is no source, or if values cannot go together."""
        if not self.data.source:
            raise InputError(
                f"{self.SOURCE}: no source is given; name a folder, a zip, tar or Parquet file, or s3://bucket/..."
            )


SettingsT = TypeVar("SettingsT", bound=RunSettings)
JobT = TypeVar("JobT", bound=JobSettings)


def to_dict(settings: JobSettings | Strict) -> dict[str, Any]:
    """The tree as JSON-ready dictionaries, for config.json."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of `to_dict`'s tree by their dotted path."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def with_run(settings: SettingsT, **changes: Any) -> SettingsT:  # noqa: ANN401
    """The same settings with other values in the group `--run`."""
    fields: dict[str, Any] = {"run": dataclasses.replace(settings.run, **changes)}
    return dataclasses.replace(settings, **fields)


def validate(settings: JobT) -> JobT:
    """Checks a tree of settings that was made in Python.

    Raises:
        InputError: a wrong type, a value out of range, or values that cannot go together.
    """
    return from_dict(dataclasses.asdict(settings), type(settings))


def from_dict(tree: dict[str, Any], kind: type[JobT]) -> JobT:
    """Reads and checks the dictionaries of a config.json.

    Raises:
        InputError: an unknown key too.
    """
    try:
        settings = TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{flag(*first['loc'])} {first['input']!r}: {first['msg']}") from None
    settings.check()
    return settings


def flag(*path: str | int) -> str:
    """The command-line flag of a field: ("data", "val_source") -> "--data.val-source"."""
    return "--" + ".".join(str(part) for part in path if isinstance(part, str)).replace("_", "-")
