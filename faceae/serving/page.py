"""The pages of a service: one to restore a photograph, one for programmers. They load nothing from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from faceae.serving.app import About

_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("faceae.serving"), autoescape=True, undefined=jinja2.StrictUndefined
)


def render(about: About) -> str:
    """Returns the page for people."""
    return _PAGES.get_template("page.html").render(about=about)


def render_docs(schema: dict[str, Any], address: str) -> str:
    """Returns the page for programmers, made of an OpenAPI schema and the service's address."""
    return _PAGES.get_template("docs.html").render(schema=schema, address=address)
