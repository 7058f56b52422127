"""The report pages in a real browser at the width of a phone: nothing overflows, and all images are shown."""

import numpy as np
import pytest
from pages import PHONE, assert_self_contained, look
from pictures import png
from PIL import Image
from runs import small

from faceae import metrics
from faceae.config import Mask
from faceae.reporting import restored
from faceae.reporting import run as report
from faceae.reporting.pages import hidden


def test_the_report_of_a_run_fits_a_phone(tmp_path):
    """With names and values as long as they can be."""
    val = dict.fromkeys(metrics.NAMES, 0.123456)
    record = {"images": 60000, "seconds": 3723.0, "images_per_second": 12345.6, "data_wait_fraction": 0.5}
    history = [{**record, "epoch": epoch, "train_loss": 0.1, "val": val} for epoch in (1, 2)]
    summary = {
        "run": "a-name-that-is-long-" * 5,
        "task": "inpaint",
        "epochs": 2,
        "best_epoch": 2,
        "val": val,
        "baselines": dict.fromkeys(("black", "mean", "telea", "navier_stokes", "biharmonic", "pca"), val),
        "best_baseline": "navier_stokes",
        "of_best": 0.123456,
        "compared": {"images": 1000, "of": 10000, "val": val},
        "counts": {"read": 70000, "rejected": 0, "train": 60000, "val": 10000},
        "synthetic": True,
        "workers": 8,
        "device": "NVIDIA H100 80GB HBM3",
        "wall_seconds": 4000.0,
        "train_seconds": 3723.0,
        "versions": {"faceae": "0.1.0"},
    }
    settings = small("s3://bucket/" + "long/" * 30, tmp_path, "run", mask__kind=("box", "strokes"), mask__size="8:16")
    sheets = {"faces": Image.new("RGB", (1100, 512)), "holes": Image.new("RGB", (1658, 768))}
    report.write(str(tmp_path / "report"), settings, summary, history, sheets)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "32×32 faces with a hole of 8 to 16 pixels square or brush strokes over them" in page
    assert "0.12 times that of the best baseline</b>,\nnavier_stokes (0.1235)" in page
    assert "measured on the same sample of\n1000 images" in page
    assert "<td>on a sample of 1000</td>" in page
    assert_self_contained(page, tmp_path, 3)


def test_the_page_of_before_and_after_fits_a_phone(tmp_path):
    picture, hole = np.zeros((900, 700, 3), np.uint8), np.zeros((900, 700), np.bool_)
    hole[5:300, 600:] = True
    shown = restored.shown("a-long-name-" * 9 + "<b>.png", picture, hole, picture)
    assert shown.place == "200x200 of 700x900 pixels, from column 500 and row 0 on"
    summary = {"counts": {"restored": 2, "there_before": 1}, "model": {"uri": "s3://" + "long/" * 30}, "format": "png"}
    restored.write(str(tmp_path), [shown, shown], summary, whole=False)
    assert_self_contained((tmp_path / restored.FILE).read_text(), tmp_path, 6)


def test_overflow_and_broken_images_are_found(tmp_path):
    broken = png(Image.new("RGB", (4, 4)))[:20].hex()
    found = look(f"<p style='width: 600px'>wide</p><img src='data:image/png;base64,{broken}'>", tmp_path)
    assert found["width"] > PHONE
    assert found["images"] == [0]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Mask(), "a hole of 28×28"),
        (Mask(count=3, size=16), "3 holes of 16×16"),
        (Mask(size="16:48"), "a hole of 16 to 48 pixels square"),
        (
            Mask(kind=("half", "border", "image"), images="m"),
            "a missing half, a missing border of 28 pixels or holes of given shapes",
        ),
    ],
)
def test_a_mask_is_described_in_words(mask, words):
    assert hidden(mask) == words
