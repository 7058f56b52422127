"""What `make docs` does to the pages: README.md and its like become pages, and links to code become its names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files at the top of the repository that are pages of the site, by their names there."""

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401
    """Adds the pages that are not in docs/."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text()
        text = _LINK.sub(lambda found: _from_top(found[1], found[2]), text)
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turns links from docs/ to files above it into those to pages, or into names of files that are not pages."""
    return _LINK.sub(lambda found: _from_docs(found[1], found[2]), markdown)


def _from_top(text: str, target: str) -> str:
    path, _, anchor = target.partition("#")
    if "://" in target or not path:
        return f"[{text}]({target})"
    if path.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    return _page(text, path, anchor)


def _from_docs(text: str, target: str) -> str:
    path, _, anchor = target.partition("#")
    return _page(text, path.removeprefix("../"), anchor) if path.startswith("../") else f"[{text}]({target})"


def _page(text: str, path: str, anchor: str) -> str:
    if path in PAGES:
        return f"[{text}]({PAGES[path]}{'#' + anchor if anchor else ''})"
    assert (ROOT / path).exists(), f"a link to {path}, which does not exist"
    return text
