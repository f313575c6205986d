"""Options of the command line: as numbers and rules, and by name in errors."""

import re
from collections.abc import Collection

import typer

from ._rule import AbstractRule
from .recipes.run import RULES


def numbers(text: str | None) -> list[float] | None:
    """Return the numbers of an option such as `.01,.1`, `None` without it."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list like .01,.1,.3") from error


def rule_of(name: str | None) -> AbstractRule | None:
    """Return the rule of a name, or raise `ValueError`."""
    if name not in RULES:
        raise ValueError(
            f"`rule` is {name!r}, but must be 'backprop' or 'alignment': pass one of "
            "them, or leave it out for the recipe's own."
        )
    return RULES[name]


def in_options(text: str, options: Collection[str]) -> str:
    """Return a message with options in place of the arguments that they stand for."""

    def option(found):
        name, value = found[1], found[2]
        if name not in options:
            return found[0]
        flag = f"--{name.replace('_', '-')}"
        return f"`{flag}`" if value in (None, "True") else f"`{flag} {value}`"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", option, text)
