"""The base classes of the settings tree, and functions that read, check and write such a tree."""

from __future__ import annotations

import abc
import dataclasses
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from faceae import storage
from faceae.errors import InputError, redacted

Count = Annotated[int, Field(gt=0, lt=2**31)]
"""A number of things."""

Minutes = Annotated[float, Field(gt=0, le=1e6)]
"""A duration; the longest is about two years."""

_PLAINER = {
    "string_pattern_mismatch": "use letters, digits, '.', '_' and '-' only, and a letter or digit first",
}
"""What to say instead of pydantic's messages, by the type of its error."""

_LONGEST_SHOWN = 200  # characters of a wrong value


def _uri(text: str) -> str:
    if wrong := storage.fault(text):
        raise PydanticCustomError("uri", "{wrong}", {"wrong": wrong})
    return text


Uri = Annotated[str, AfterValidator(_uri)]
"""A local path or a URI: not empty, and without credentials."""

UriOrEmpty = Annotated[str, AfterValidator(lambda text: text and _uri(text))]
"""A positional argument, which is empty if it is not given; the job's `check` says what is missing."""


class Strict:
    """A group of settings in which an unknown setting is an error, and so is a number that is not finite."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class JobSettings(Strict):
    """All settings of a job. Those of other jobs than training are in modules of their own."""

    RESUME_HINT: ClassVar[str] = "--run.resume with the same --run.name continues from where it stopped"
    """How to continue; the job prints it when it is interrupted."""
    POSITIONAL: ClassVar[dict[str, str]] = {}
    """What error messages call the settings that are positional arguments, by the flag that they would have."""

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


def convert(settings: JobT) -> JobT:
    """Does what `validate` does, but checks each value by itself only.

    Raises:
        InputError: a value has the wrong type or is out of range.
    """
    return _convert(dataclasses.asdict(settings), type(settings))


def from_dict(tree: dict[str, Any], kind: type[JobT]) -> JobT:
    """Makes checked settings of nested dictionaries, such as those of a config.json.

    Raises:
        InputError: a key is unknown, a value has the wrong type or is out of range, or values contradict each other.
    """
    settings = _convert(tree, kind)
    settings.check()
    return settings


def _convert(tree: dict[str, Any], kind: type[JobT]) -> JobT:
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        path, value = _path(errors[0]["loc"], kind), redacted(repr(errors[0]["input"]))
        # A field of several types, such as "auto" or a number, has an error for each.
        reasons = dict.fromkeys(
            _PLAINER.get(each["type"], each["msg"]) for each in errors if _path(each["loc"], kind) == path
        )
        reason = " or ".join(reasons).replace(" or Input should be", " or")
        shown = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}..."
        raise InputError(f"{kind.POSITIONAL.get(flag(*path), flag(*path))} {shown}: {reason}") from None


def _path(loc: tuple[str | int, ...], kind: type) -> tuple[str | int, ...]:
    """Returns the part of a pydantic error's location that names a field; what follows are positions and types."""
    for depth, name in enumerate(loc, 1):
        kind = get_type_hints(kind).get(str(name), str)
        if not dataclasses.is_dataclass(kind):
            return loc[:depth]
    return loc


def flag(*path: str | int) -> str:
    """Returns the command-line flag of a field: ("data", "val_source") -> "--data.val-source"."""
    return "--" + ".".join(str(part) for part in path if isinstance(part, str)).replace("_", "-")
