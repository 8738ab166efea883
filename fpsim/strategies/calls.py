"""How strategies are called: arguments settled at once, and shown as they were given.

Imports arguments, catalog, format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim.arguments import integer, shown
from fpsim.catalog import parse
from fpsim.format import Format

_P = ParamSpec("_P")
_T = TypeVar("_T")


def shown_as_called(
    function: Callable[_P, SearchStrategy[_T]],
) -> Callable[_P, SearchStrategy[_T]]:
    """`function`, which checks its arguments when called; its strategies print as that call."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> SearchStrategy[_T]:
        strategy = function(*args, **kwargs)

        def drawn(draw: st.DrawFn, *args: Any, **kwargs: Any) -> _T:
            return draw(strategy)

        drawn.__name__ = function.__name__
        return st.composite(drawn)(*args, **kwargs)

    return call


def pick(draw: st.DrawFn, options: Sequence[_T]) -> _T:
    """One of them, by one draw even if there is but one: to Hypothesis, fewer draws are simpler."""
    return options[draw(st.integers(0, max(len(options) - 1, 1))) % len(options)]


def one_format(name: str, value: Any) -> Format:
    """The format that `value` stands for; TypeError for a strategy of formats."""
    if isinstance(value, SearchStrategy):
        raise TypeError(
            f"{name}={shown(value)} is a strategy, and a format is wanted; draw it first: "
            "with formats().flatmap(values), or with st.data() in the test"
        )
    return parse(value)


def one_flag(name: str, value: Any) -> bool | None:
    """`value` as True, False, or None for either."""
    if value is None or isinstance(value, bool):
        return value
    raise TypeError(f"{name}={shown(value)} is not a bool; give True, False, or None for either")


def some_integers(name: str, value: Any, low: int, high: int) -> frozenset[int] | None:
    """`value`, an integer or several, as a set, or None for all."""
    if value is None:
        return None
    remedy = f"give an integer from {low} to {high}, or several, such as range({low}, {low + 4})"
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not several:
        raise ValueError(f"{name}={shown(value)} allows nothing; {remedy}")
    return frozenset(integer(name, one, low, high, remedy) for one in several)
