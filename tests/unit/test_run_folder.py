"""Where a run may begin: an empty folder, never among the files of another program."""

from pathlib import Path

import pytest

from faceae import storage
from faceae.config import Data, Output, Run, Settings, Source
from faceae.config.grid import GridSettings
from faceae.config.jobs import EvaluateData, EvaluateOutput, EvaluateSettings, PrepareSettings
from faceae.errors import InputError, RunFailedError
from faceae.run_folder import RunFolder


def settings_of(job, place):
    where = {"storage": str(place), "name": "r"}
    return {
        "train": lambda: Settings(data=Data(source=("synthetic:20",)), run=Run(**where)),
        "tune": lambda: GridSettings(data=Data(source=("synthetic:20",)), run=Run(**where)),
        "prepare": lambda: PrepareSettings(Source(("synthetic:20",)), run=Output(**where)),
        "evaluate": lambda: EvaluateSettings("m", EvaluateData(("synthetic:20",)), run=EvaluateOutput(**where)),
    }[job]()


@pytest.mark.parametrize("job", ["train", "tune", "prepare", "evaluate"])
@pytest.mark.parametrize("name", ["manifest.json", "rest.zip.partial", "finished/notes.txt", "summary.json"])
def test_a_folder_with_files_of_another_program_is_refused(tmp_path, job, name):
    storage.write(f"{tmp_path}/r/{name}", b"theirs")
    with pytest.raises(
        InputError, match=rf"^--run\.name r: .*/r is not the folder of a run, but has files, such as {name};"
    ):
        RunFolder(settings_of(job, tmp_path)).open()
    assert storage.list_files(str(tmp_path)) == [f"r/{name}"]


def test_what_a_failed_start_leaves_does_not_take_the_name(tmp_path):
    folder = RunFolder(settings_of("train", tmp_path))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".config.json.0123abcd.partial").write_bytes(b"half")
    for _ in range(2):
        with pytest.raises(InputError, match="too many"), folder.claim():
            start_that_fails(folder)
    assert storage.list_files(folder.uri) == [".config.json.0123abcd.partial", "rejected.jsonl"]
    assert not folder.open()


def start_that_fails(folder):
    storage.write(folder.path("rejected.jsonl"), b"")
    raise InputError("too many images cannot be used")


def test_a_full_disk_is_said_in_one_line_that_names_the_folder(tmp_path):
    folder = RunFolder(settings_of("train", tmp_path))
    message = rf"^{folder.uri}: .*No space left on device; what was saved before is intact: .* --run.resume$"
    with pytest.raises(RunFailedError, match=message), folder.claim():
        Path("/dev/full").write_bytes(b"the report")
    folder = RunFolder(settings_of("train", tmp_path / "other"))
    with pytest.raises(FileNotFoundError), folder.claim():  # a bug, which the folder does not explain
        (tmp_path / "missing").read_bytes()


def test_a_start_that_fails_at_once_leaves_no_folder(tmp_path):
    folder = RunFolder(settings_of("evaluate", tmp_path))
    with pytest.raises(InputError), folder.claim():
        raise InputError("MODEL: it does not exist")
    assert not (tmp_path / "r").exists()
