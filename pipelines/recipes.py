"""Recipes by name: each a function that gives a complete config, and its docstring is its help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

import tyro

Config = TypeVar("Config")


def choose(
    recipes: Mapping[str, Callable[[], Config]], prog: str, description: str, args: Sequence[str] | None = None
) -> Config:
    """The config of the recipe that a command line names, with its overrides. args: None = those of this process.

    Raises ValueError for a recipe that there is not, with those that there are.
    """
    args = sys.argv[1:] if args is None else list(args)
    if args and not args[0].startswith("-") and args[0] not in recipes:
        close = get_close_matches(args[0], recipes, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"no recipe is called {args[0]}; {hint}There are {', '.join(recipes)}")
    return tyro.extras.overridable_config_cli(
        {name: (recipe.__doc__ or "", recipe()) for name, recipe in recipes.items()},
        prog=prog,
        description=description,
        args=args,
    )
