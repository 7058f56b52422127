"""The folder of a run: what is in it, and whether it may be started or continued."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections.abc import Iterator
from typing import Generic

from pyarrow import ArrowException

from faceae import config, storage
from faceae.config import SettingsT
from faceae.errors import InputError


def versions(*packages: str) -> dict[str, str]:
    """Of installed packages, to stand beside a result."""
    return {name: importlib.metadata.version(name) for name in packages}


class RunFolder(Generic[SettingsT]):
    """`<run.storage>/<run.name>/` of a run or a grid, local or in a bucket."""

    def __init__(self, settings: SettingsT) -> None:
        """Names the folder; touches nothing."""
        name = settings.run.name or f"{settings.name_prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.settings = config.with_run(settings, name=name, storage=storage.absolute(settings.run.storage))
        self.name = name
        self.uri = storage.join(self.settings.run.storage, name)

    def path(self, *names: str) -> str:
        """URI of something in the folder."""
        return storage.join(self.uri, *names)

    def open(self) -> bool:
        """Makes the folder with its config.json, or checks that it can be continued.

        Returns:
            Whether there was a run to continue.

        Raises:
            InputError: the name is taken, the settings do not fit the run to continue, or nothing can be written.
        """
        saved = saved_settings(self.settings)
        if saved is None:
            self._write_config()
            return False
        if not self.settings.run.resume:
            raise InputError(
                f"--run.name {self.name}: there is a run of this name in {self.settings.run.storage}; choose another "
                "name, or continue it with --run.resume"
            )
        old, new = (config.flat(config.to_dict(settings)) for settings in (saved, self.settings))
        for path in old:
            if old[path] != new[path] and not self._free(path):
                raise InputError(
                    f"{config.flag(path)} {new[path]}: the run {self.name} was started with {old[path]}; resume it "
                    "with that, or start a run of another name"
                )
        self._write_config()
        return True

    def _free(self, path: str) -> bool:
        return any(path == free or path.startswith(f"{free}.") for free in self.settings.FREE_ON_RESUME)

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Opens the folder, and frees its name again if the input of a new run turns out wrong; see `open`."""
        resumed = self.open()
        try:
            yield resumed
        except InputError:
            if not resumed:
                storage.delete(self.path("config.json"))
            raise

    def _write_config(self) -> None:
        storage_uri = self.settings.run.storage
        if storage.is_remote(storage_uri) and not storage.bucket_exists(storage_uri):
            raise InputError(f"--run.storage {storage_uri}: there is no such bucket; make it first")
        try:
            storage.write_json(self.path("config.json"), config.to_dict(self.settings))
        except (OSError, ArrowException) as error:
            raise InputError(f"--run.storage {storage.explain(error, storage_uri)}") from None


def saved_settings(settings: SettingsT) -> SettingsT | None:
    """The settings that the named run was started with, or None if there is no such run.

    Raises:
        InputError: the storage cannot be read.
    """
    if settings.run.name is None:
        return None
    uri = RunFolder(settings).path("config.json")
    try:
        saved = storage.read_json(uri) if storage.exists(uri) else None
    except InputError as error:
        raise InputError(f"--run.storage {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"--run.storage {storage.explain(error, uri)}") from None
    try:
        return saved and config.from_dict(saved, type(settings))
    except InputError as error:
        raise InputError(
            f"--run.name {settings.run.name}: {uri} is of another job or version ({error}); choose another name"
        ) from None
