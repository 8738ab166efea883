"""Checks of single arguments, each with the one message for its kind. Imports nothing of fpsim.

Every message names the argument, the value, what is allowed and the remedy.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np


class Choice(StrEnum):
    """A name from a list. Its repr is code: ``Rounding.to_odd``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


_Choice = TypeVar("_Choice", bound=StrEnum)


def shown(value: Any) -> str:
    """A value as it appears in a message: on one line and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}…"


def integer(name: str, value: Any, low: int, high: int, remedy: str = "") -> int:
    """`value` as an int from `low` to `high`; TypeError or ValueError else."""
    remedy = remedy or f"give an integer from {low} to {high}"
    try:
        if isinstance(value, (bool, np.bool_, np.ndarray)):  # which have an index, too
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={shown(value)} is not an integer; {remedy}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={shown(number)} is out of range; {remedy}")
    return number


def real(name: str, value: Any, allowed: str, ok: Callable[[float], bool]) -> float:
    """`value` as a float that is `ok`; TypeError or ValueError, which says `allowed`, else."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={shown(value)} is not a real number; it must be {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not ok(number):
        raise ValueError(f"{name}={shown(value)} is out of range; it must be {allowed}")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a finite positive float."""
    return real(name, value, "finite and positive", lambda x: 0 < x < float("inf"))


def boolean(name: str, value: Any) -> bool:
    """`value` as a bool; TypeError else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={shown(value)} is not a bool; give True or False")
    return bool(value)


def choice(name: str, value: Any, choices: type[_Choice]) -> _Choice:
    """The member of an enum that `value` is or names; ValueError, which lists them, else."""
    try:
        return choices(value)
    except (ValueError, TypeError):
        allowed = ", ".join(repr(c.value) for c in choices)
        raise ValueError(f"{name}={shown(value)} is not one of {allowed}") from None


def array(name: str, value: Any, remedy: str) -> np.ndarray[Any, Any]:
    """`value` as an array; ValueError for what is none, such as rows of unequal length."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} is no array: its parts differ in shape; {remedy}") from None
