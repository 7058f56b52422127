"""What a browser finds in a page."""

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
