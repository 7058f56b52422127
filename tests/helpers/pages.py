"""Loads a page in a headless Chromium and returns what it finds there."""

import html
import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PHONE = 390
"""Width of a phone's screen in CSS pixels."""

LOOK = """
<iframe id="page" width="{width}" height="800" style="border: 0" srcdoc="{page}"></iframe>
<script>
  addEventListener("load", () => {{
    const page = document.getElementById("page"), inside = page.contentDocument;
    const loaded = page.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name);
    document.body.textContent = "found" + JSON.stringify({{
      width: inside.documentElement.scrollWidth,
      images: [...inside.images].map(image => image.naturalWidth),
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
    """Returns the width of a page in a browser, the widths of its images (0 if broken), and its network requests."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    (tmp_path / "look.html").write_text(LOOK.format(width=width, page=html.escape(page)))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--dump-dom", f"file://{tmp_path / 'look.html'}"]
    dumped = Text()
    dumped.feed(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    return json.loads(dumped.text.split("found")[1])


def assert_self_contained(page: str, tmp_path, images: int) -> None:
    """A page fits a phone, shows all its images and requests nothing from the network."""
    found = look(page, tmp_path)
    assert found["width"] <= PHONE  # a scrollbar takes some of the width
    assert len(found["images"]) == images
    assert all(found["images"])
    assert found["requests"] == []
