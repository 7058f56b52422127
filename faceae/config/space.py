"""Ranges of numbers from which the trials of a search are drawn, written as 1e-4:1e-1:log."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

DIGITS = 3
"""Significant digits of a value that is drawn from a range: 0.00123 tells as much as 0.0012345678."""


class Interval(NamedTuple):
    """A range of numbers, both ends included.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether each order of magnitude is as likely as another, rather than each number.
        whole: whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, chance: random.Random) -> float:
        """Draws a number."""
        if self.log:
            return self.rounded(math.exp(chance.uniform(math.log(self.low), math.log(self.high))))
        return self.rounded(chance.uniform(self.low, self.high))

    def __contains__(self, value: object) -> bool:
        """Whether a number is in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """Rounds to a whole number, or to `DIGITS` significant digits; inside the range."""
        rounded = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(rounded, self.low), self.high)


Choices = tuple[Any, ...]
"""A list of values, each as likely as another."""

Space = Mapping[str, Choices | Interval]
"""What a search varies, by dotted path ("optim.lr")."""


def is_range(value: object) -> bool:
    """Whether a value of a list is a range."""
    return isinstance(value, str) and ":" in value


def interval(text: str, kind: type = float) -> Interval:
    """Reads a range, "low:high" or "low:high:log", of numbers of a kind.

    Raises:
        ValueError: the text is not one; its message says why.
    """
    ends = text.removesuffix(":log").split(":")
    try:
        low, high = map(kind, ends)
    except ValueError:
        numbers = "2:8 or 16:256:log" if kind is int else "0.1:0.9 or 1e-4:1e-1:log"
        raise ValueError(f"write a number, or a range such as {numbers}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("the first end of a range must be less than the second")
    if text.endswith(":log") and low <= 0:
        raise ValueError("a range with :log begins above 0")
    return Interval(low, high, text.endswith(":log"), kind is int)


def range_of(kind: type) -> Any:  # noqa: ANN401
    """Returns the type of a setting that is a range of numbers of a kind as text, see `interval`."""

    def check(text: str) -> str:
        try:
            interval(text, kind)
        except ValueError as error:
            raise PydanticCustomError("range", "{why}", {"why": str(error)}) from None
        return text

    return Annotated[str, AfterValidator(check)]


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all values are numbers; True and False are words."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def draw(space: Space, chance: random.Random) -> dict[str, Any]:
    """Draws a value for each setting."""
    return {
        path: among.draw(chance) if isinstance(among, Interval) else chance.choice(among)
        for path, among in space.items()
    }


def corners(space: Space) -> list[dict[str, Any]]:
    """Returns points with each listed value and each end of a range in at least one of them: if all of these can be
    trained, most likely all can."""
    ends = {path: (among.low, among.high) if isinstance(among, Interval) else among for path, among in space.items()}
    longest = max(map(len, ends.values()))
    return [{path: values[i % len(values)] for path, values in ends.items()} for i in range(longest)]
