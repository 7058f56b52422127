"""The pages of the reports in a real browser, as wide as a phone: nothing sticks out, all pictures are there."""

import html
import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from conftest import png, small
from PIL import Image

from faceae import metrics, report
from faceae.config import Mask

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PHONE = 390

LOOK = """
<iframe id="page" width="{width}" height="800" style="border: 0" srcdoc="{page}"></iframe>
<script>
  addEventListener("load", () => {{
    const page = document.getElementById("page"), inside = page.contentDocument;
    const loaded = page.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name);
    document.body.textContent = "found" + JSON.stringify({{
      width: inside.documentElement.scrollWidth,
      pictures: [...inside.images].map(image => image.naturalWidth),
      requests: loaded.filter(name => !name.startsWith("data:")),
    }}) + "found";
  }});
</script>
"""


class Text(HTMLParser):
    """Collects the text of a page."""

    text = ""

    def handle_data(self, data):
        self.text += data


def look(page: str, tmp_path, width=PHONE):
    """What a browser finds in a page: its width, the widths of its pictures, and what it asked the network for."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    (tmp_path / "look.html").write_text(LOOK.format(width=width, page=html.escape(page)))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--dump-dom", f"file://{tmp_path / 'look.html'}"]
    dumped = Text()
    dumped.feed(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    return json.loads(dumped.text.split("found")[1])


def assert_stands_alone(page: str, tmp_path, pictures: int) -> None:
    found = look(page, tmp_path)
    assert found["width"] <= PHONE  # a scrollbar takes some of it
    assert len(found["pictures"]) == pictures
    assert all(found["pictures"])
    assert found["requests"] == []


def test_the_report_of_a_run(tmp_path):
    """With names and values as long as they get."""
    val = dict.fromkeys(metrics.NAMES, 0.123456)
    record = {"images": 60000, "seconds": 3723.0, "images_per_second": 12345.6, "data_wait_fraction": 0.5}
    history = [{**record, "epoch": epoch, "train_loss": 0.1, "val": val} for epoch in (1, 2)]
    summary = {
        "run": "a-name-that-is-long-" * 5,
        "epochs": 2,
        "best_epoch": 2,
        "val": val,
        "baselines": dict.fromkeys(("black", "mean", "telea"), val),
        "counts": {"read": 70000, "rejected": 0, "train": 60000, "val": 10000},
        "synthetic": True,
        "workers": 8,
        "device": "NVIDIA H100 80GB HBM3",
        "wall_seconds": 4000.0,
        "train_seconds": 3723.0,
        "versions": {"faceae": "0.1.0"},
    }
    settings = small("s3://bucket/" + "long/" * 30, tmp_path, "run", mask__kind=("box", "strokes"), mask__size="8:16")
    report.write(str(tmp_path / "report"), settings, summary, history, Image.new("RGB", (1100, 512)))
    page = (tmp_path / "report" / "index.html").read_text()
    assert "faces with\n  a hole of 8 to 16 pixels square or brush strokes over them" in page
    assert_stands_alone(page, tmp_path, 2)


def test_what_sticks_out_is_found(tmp_path):
    broken = png(Image.new("RGB", (4, 4)))[:20].hex()
    found = look(f"<p style='width: 600px'>wide</p><img src='data:image/png;base64,{broken}'>", tmp_path)
    assert found["width"] > PHONE
    assert found["pictures"] == [0]


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
def test_what_is_hidden_is_said(mask, words):
    assert report.hidden(mask) == words
