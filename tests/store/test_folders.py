"""Folders as they turn up: links that lead in circles, and names that no program should have to read."""

import os
import shutil

import pytest

from faceae import storage
from faceae.errors import InputError
from faceae.storage import is_partial


@pytest.fixture
def tree(tmp_path):
    """A folder with two files, and a folder outside it with one."""
    for name in ("in/b/1.png", "in/2.png", "out/3.png"):
        storage.write(str(tmp_path / name), b"x")
    return tmp_path / "in"


def test_a_link_to_a_folder_outside_is_followed(tree):
    (tree / "linked").symlink_to("../out")
    (tree / "0.png").symlink_to("2.png")
    assert storage.list_files(str(tree)) == ["0.png", "2.png", "b/1.png", "linked/3.png"]
    (tree.parent / "all").symlink_to("in")
    assert storage.list_files(str(tree.parent / "all")) == storage.list_files(str(tree))


@pytest.mark.timeout(10)
def test_links_that_lead_back_add_no_files(tree):
    before = storage.list_files(str(tree))
    for name, target in (
        ("latest", "."),
        ("b/up", ".."),
        ("again", "b"),
        ("a", "b"),
        ("loop", "loop"),
        ("no", "no.png"),
    ):
        (tree / name).symlink_to(target)
    assert storage.list_files(str(tree)) == before


def test_two_links_to_one_folder_show_it_once_under_the_first_name(tree):
    (tree / "y").symlink_to("../out")
    (tree / "x").symlink_to("../out")
    assert storage.list_files(str(tree)) == ["2.png", "b/1.png", "x/3.png"]


def test_a_missing_folder_is_an_error_or_empty(tmp_path):
    with pytest.raises(InputError, match="nothing: it does not exist"):
        storage.list_files(str(tmp_path / "nothing"))
    assert storage.list_files(str(tmp_path / "nothing"), missing_ok=True) == []


def test_sizes_and_times_tell_that_a_file_was_edited(tree):
    before = storage.stamps(str(tree))
    assert before.keys() == {f"{tree}/2.png", f"{tree}/b/1.png"}
    assert storage.stamps(f"{tree}/2.png") == {f"{tree}/2.png": before[f"{tree}/2.png"]}
    storage.write(f"{tree}/2.png", b"y")
    after = storage.stamps(str(tree))
    assert {uri for uri in after if after[uri] != before[uri]} == {f"{tree}/2.png"}


def test_a_bucket_tells_sizes_and_times_too(s3):
    for name in ("1.png", "b/2.png"):
        storage.write(f"s3://faces/stamps/{name}", b"content")
    found = storage.stamps("s3://faces/stamps")
    assert found.keys() == {"s3://faces/stamps/1.png", "s3://faces/stamps/b/2.png"}
    assert all(size == 7 and time > 10**18 for size, time in found.values())
    assert storage.stamps("s3://faces/stamps/b/2.png").items() <= found.items()


def test_a_file_with_a_name_as_long_as_the_file_system_allows_is_written(tmp_path):
    for name in ("x" * 251 + ".png", "é" * 125 + ".png"):
        storage.write(str(tmp_path / name), b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    assert len(list(tmp_path.iterdir())) == 2


def test_only_half_written_files_of_our_own_are_known_as_such(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *args: None)
        patch.setattr("pathlib.Path.unlink", lambda *args, **kwargs: None)
        storage.write(str(tmp_path / "a" / "1.png"), b"half")
    (name,) = storage.list_files(str(tmp_path))
    assert name.startswith("a/.1.png.")
    assert is_partial(name)
    for other in ("rest.zip.partial", ".rest.zip.partial", "a.0123abcd.partial", ".a.0123abcd.partial/b.png"):
        assert not is_partial(other)


def test_a_path_that_is_not_utf_8_is_an_error_of_one_line(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(path)
    with pytest.raises(InputError, match=r"/caf\\xe9: the path is not UTF-8; rename it$"):
        storage.list_files(path)
    shutil.rmtree(path)
