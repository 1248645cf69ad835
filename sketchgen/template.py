"""The templates of the package's pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jinja2


@cache
def template(name: str, **filters: Callable[..., str]) -> jinja2.Template:
    """The template `name` of the package, compiled once; it escapes what it is given.

    filters: what it calls them, and what they are.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sketchgen"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    return environment.get_template(name)
