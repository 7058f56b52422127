"""A resumed run is trained and validated on the images that it was started on."""

import pytest
from pictures import png
from PIL import Image
from runs import small

from faceae import storage
from faceae.data.listing import FILE, check_listing
from faceae.data.sources import list_sources
from faceae.data.split import Split
from faceae.errors import InputError
from faceae.run_folder import RunFolder


@pytest.fixture
def source(tmp_path):
    for folder, count in (("faces", 20), ("masks", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.png").write_bytes(png(Image.new("RGB", (32, 32))))
    return tmp_path


def begin(source, masks=None):
    """Starts the run `x`, or resumes it; `masks` is a folder of the user's own."""
    settings = small(source / "faces", source / "runs", "x", run__resume=True)
    folder = RunFolder(settings)
    with folder.claim() as resumed:
        check_listing(Split(settings.data), masks and list_sources([str(masks)], "").entries, folder, resumed)


def test_a_run_resumes_on_the_same_images_also_if_the_folder_was_copied(source):
    begin(source)
    assert {role: kept["images"] for role, kept in storage.read_json(f"{source}/runs/x/{FILE}").items()} == {
        "train": len(Split(small(source / "faces", "", "x").data).train),
        "val": len(Split(small(source / "faces", "", "x").data).val),
    }
    for path in (source / "faces").iterdir():
        path.write_bytes(path.read_bytes())
    begin(source)


def test_a_run_does_not_resume_on_other_images(source):
    begin(source)
    before = storage.read(f"{source}/runs/x/{FILE}")
    kept = storage.read_json(f"{source}/runs/x/{FILE}")
    for number in range(20, 40):
        (source / "faces" / f"{number}.png").write_bytes(png(Image.new("RGB", (32, 32))))
    with pytest.raises(
        InputError,
        match=r"^--data\.source: the training images have changed since x was started "
        rf"\({kept['train']['images']} then, \d+ now;.* another --run\.name$",
    ):
        begin(source)
    assert storage.read(f"{source}/runs/x/{FILE}") == before


def test_a_run_does_not_resume_with_other_masks(source):
    begin(source, source / "masks")
    (source / "masks" / "0.png").rename(source / "masks" / "new.png")
    with pytest.raises(
        InputError, match=r"^--mask\.images: the masks have changed since x was started \(2 then, 2 now"
    ):
        begin(source, source / "masks")


def test_a_run_of_a_version_that_kept_no_listing_resumes_and_keeps_it_from_then_on(source):
    begin(source)
    storage.delete(f"{source}/runs/x/{FILE}")
    begin(source)
    assert storage.exists(f"{source}/runs/x/{FILE}")


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"train": 3}', b"\xff"])
def test_junk_in_the_listing_is_one_line(source, junk):
    begin(source)
    storage.write(f"{source}/runs/x/{FILE}", junk)
    with pytest.raises(InputError, match=rf"{FILE}: is damaged"):
        begin(source)
