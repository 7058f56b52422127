"""The base classes of the settings tree, and functions that read, check and write such a tree."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from faceae.errors import InputError


class Strict:
    """A group of settings in which an unknown setting is an error, and so is a number that is not finite."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class JobSettings(Strict):
    """All settings of a job. Those of jobs other than training are in `faceae.config.jobs`."""

    RESUME_HINT: ClassVar[str] = "--run.resume with the same --run.name continues from where it stopped"
    """How to continue; the job prints it when it is interrupted."""

    def check(self) -> None:
        """Raises InputError if values contradict each other."""


class RunSettings(JobSettings, abc.ABC):
    """The settings of a job that writes a run folder of its own."""

    data: Any
    run: Any

    FREE_ON_RESUME: ClassVar[frozenset[str]]
    """Dotted paths of the settings that may change when a run is resumed: the result so far depends on none of them."""
    SOURCE_FLAG: ClassVar[str] = "--data.source"
    """The flag or positional argument that names the images; used in error messages."""

    @property
    @abc.abstractmethod
    def name_prefix(self) -> str:
        """The first part of the run's default name; the time follows."""

    def check(self) -> None:
        """Raises InputError if no source is given, or if values contradict each other."""
        if not self.data.source:
            raise InputError(
                f"{self.SOURCE_FLAG}: no source is given; name a folder, a zip, tar or Parquet file, or s3://bucket/..."
            )


SettingsT = TypeVar("SettingsT", bound=RunSettings)
JobT = TypeVar("JobT", bound=JobSettings)


def to_dict(settings: JobSettings | Strict) -> dict[str, Any]:
    """Returns the settings as nested dictionaries that JSON can hold, as in config.json."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of `to_dict`'s tree by dotted path ("optim.lr"), each path after `prefix`."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def with_run(settings: SettingsT, **changes: Any) -> SettingsT:  # noqa: ANN401
    """Returns the same settings with `changes` made in the group `--run`."""
    fields: dict[str, Any] = {"run": dataclasses.replace(settings.run, **changes)}
    return dataclasses.replace(settings, **fields)


def without_switches(settings: SettingsT) -> SettingsT:
    """Returns the same settings without the switches that concern one start of the job: run.resume and data.verify."""
    fields: dict[str, Any] = {
        "run": dataclasses.replace(settings.run, resume=False),
        "data": dataclasses.replace(settings.data, verify=False),
    }
    return dataclasses.replace(settings, **fields)


def validate(settings: JobT) -> JobT:
    """Checks settings that were made in Python and returns them with every value converted to its declared type.

    Raises:
        InputError: a value has the wrong type or is out of range, or values contradict each other.
    """
    return from_dict(dataclasses.asdict(settings), type(settings))


def from_dict(tree: dict[str, Any], kind: type[JobT]) -> JobT:
    """Makes checked settings of nested dictionaries, such as those of a config.json.

    Raises:
        InputError: a key is unknown, a value has the wrong type or is out of range, or values contradict each other.
    """
    try:
        settings = TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{flag(*first['loc'])} {first['input']!r}: {first['msg']}") from None
    settings.check()
    return settings


def flag(*path: str | int) -> str:
    """Returns the command-line flag of a field: ("data", "val_source") -> "--data.val-source"."""
    return "--" + ".".join(str(part) for part in path if isinstance(part, str)).replace("_", "-")
