"""The folder of a run: the paths in it, and the check whether a run may be started or continued there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import time
from collections.abc import Iterator
from typing import Generic

from pyarrow import ArrowException

from faceae import claim, config, storage
from faceae.claim import Claim
from faceae.config import SettingsT
from faceae.errors import RESUMABLE, InputError, RunFailedError


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions of installed packages, to be saved with a result."""
    return {name: importlib.metadata.version(name) for name in packages}


_LEFT = frozenset({claim.FILE, "data.json", "rejected.jsonl", "track.json"})
"""Files that may be there before a run begins: a start that failed leaves them, and its name is free again."""


class RunFolder(Generic[SettingsT]):
    """The folder `<run.storage>/<run.name>/` of a run or a grid, local or in a bucket.

    Attributes:
        settings: the run's settings, with the name filled in and the storage absolute.
        name: the run's name.
        uri: the folder's absolute path or URI.
    """

    def __init__(self, settings: SettingsT) -> None:
        """Decides the folder's name; reads and writes nothing."""
        name = settings.run.name or f"{settings.name_prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.settings = config.with_run(settings, name=name, storage=storage.absolute(settings.run.storage))
        self.name = name
        self.uri = storage.join(self.settings.run.storage, name)
        self._held: Claim | None = None

    def path(self, *names: str) -> str:
        """Returns the URI of a file or folder in this folder."""
        return storage.join(self.uri, *names)

    def open(self) -> bool:
        """Creates the folder with its config.json, or checks that the run there can be continued.

        Returns:
            Whether the folder already held a run, which is to be continued.

        Raises:
            InputError: the name is taken, the settings differ from those of the run to continue, or the folder cannot
                be written.
        """
        saved = saved_settings(self.settings)
        if saved is None:
            self._check_empty()
            self._write_config()
            return False
        if not self.settings.run.resume:
            raise InputError(
                f"--run.name {self.name}: a run of this name already exists in {self.settings.run.storage}; choose "
                "another name, or continue it with --run.resume"
            )
        old, new = (config.flat(config.to_dict(settings)) for settings in (saved, self.settings))
        for path in old:
            if old[path] != new[path] and not self._free(path):
                raise InputError(
                    f"{config.flag(path)} {new[path]}: the run {self.name} was started with {old[path]}; resume it "
                    "with that value, or start a run with another name"
                )
        self._write_config()
        return True

    def _check_empty(self) -> None:
        """Checks that no files of another program would be overwritten, or taken for those of this run."""
        try:
            files = storage.list_files(self.uri, missing_ok=True)
        except InputError as error:
            raise InputError(f"--run.storage {error}") from None
        if name := next((name for name in files if name not in _LEFT and not storage.is_partial(name)), None):
            raise InputError(
                f"--run.name {self.name}: {self.uri} is not the folder of a run, but has files, such as "
                f"{storage.shown(name)}; choose another name"
            )

    def _free(self, path: str) -> bool:
        return any(path == free or path.startswith(f"{free}.") for free in self.settings.FREE_ON_RESUME)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps other processes from working on this folder during a with block.

        Raises:
            InputError: another process works on it, or the folder cannot be written.
            RunFailedError: another process has taken over, because this one was suspended for too long.
        """
        try:
            storage.check_bucket(self.settings.run.storage)
        except InputError as error:
            raise InputError(f"--run.storage {error}") from None
        try:
            holder = claim.take(self.uri, f"--run.name {self.name}")
        except (OSError, ArrowException) as error:
            raise InputError(f"--run.storage {storage.explain(error, self.settings.run.storage)}") from None
        try:
            with holder:
                self._held = holder.claim
                yield
        finally:
            if not storage.is_remote(self.uri):
                with contextlib.suppress(OSError):  # it is not empty
                    os.rmdir(storage.resolve(self.uri)[1])

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Holds and opens the folder for a with block; if the block raises InputError, a new run's name is free again.

        Yields:
            Whether the folder already held a run; see `open`.

        Raises:
            InputError: as `hold` and `open` do.
            RunFailedError: as `hold` does, or the block cannot write, because the disk is full or the bucket refuses.
        """
        with self.hold():
            resumed = self.open()
            try:
                yield resumed
            except InputError:
                if not resumed:
                    storage.delete(self.path("config.json"))
                raise
            except OSError as error:
                if not storage.is_refusal(error):
                    raise
                raise RunFailedError(f"{storage.explain(error, self.uri)}; {RESUMABLE}") from None

    @property
    def held(self) -> Claim:
        """The claim on this folder, by which every process of the job checks that it may still write there."""
        assert self._held, "only inside `hold`"
        return self._held

    def _write_config(self) -> None:
        storage_uri = self.settings.run.storage
        try:
            storage.write_json(self.path("config.json"), config.to_dict(self.settings))
        except (OSError, ArrowException) as error:
            raise InputError(f"--run.storage {storage.explain(error, storage_uri)}") from None


def saved_settings(settings: SettingsT) -> SettingsT | None:
    """Returns the settings with which the run of this name was started, or None if it does not exist.

    Raises:
        InputError: the storage cannot be read, or the folder was written by another job or version.
    """
    if settings.run.name is None:
        return None
    uri = RunFolder(settings).path("config.json")
    try:
        if not storage.exists(uri):
            return None
        saved = storage.read_json(uri)
    except InputError as error:
        raise InputError(f"--run.storage {error}") from None
    except (OSError, ArrowException) as error:
        raise InputError(f"--run.storage {storage.explain(error, uri)}") from None
    except ValueError as error:
        raise InputError(f"--run.name {settings.run.name}: {uri} is damaged ({error}); choose another name") from None
    try:
        return config.from_dict(saved, type(settings))
    except InputError as error:
        raise InputError(
            f"--run.name {settings.run.name}: {uri} was written by another job or version ({error}); choose another "
            "name"
        ) from None
