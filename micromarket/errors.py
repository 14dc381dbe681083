"""The errors users see: what is wrong, where, and what would put it right.

Input errors carry *all* the problems found, so that a user mends a file once, not once per error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EXIT_DONE, EXIT_FAILED, EXIT_INPUT = 0, 1, 2


class MicromarketWarning(UserWarning):
    """Something the reader of the plan should know; warnings of this class are errors in our tests."""


class MicromarketError(Exception):
    """Base of every error raised on purpose. ``exit_status`` is what the command line returns."""

    exit_status = EXIT_FAILED


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input.

    ``row`` counts records from 1, without the header (``None``: the whole column or file); ``more`` is the
    number of further records with the same problem.
    """

    file: str
    expected: str
    column: str | None = None
    row: int | None = None
    value: str | None = None
    more: int = 0

    def __str__(self) -> str:
        place = [self.file]
        if self.column is not None:
            place.append(f"column {self.column}")
        if self.row is not None:
            place.append(f"row {self.row}")
        found = "" if self.value is None else f" found {self.value};"
        also = f" (and {self.more:,} more)" if self.more else ""
        return printable(f"{', '.join(place)}:{found} expected {self.expected}{also}")


class InputError(MicromarketError):
    """The user's data or configuration can't be used. Lists every problem at once."""

    exit_status = EXIT_INPUT

    def __init__(self, problems: Iterable[Problem]):
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        n = len(self.problems)
        head = "1 problem in the input" if n == 1 else f"{n} problems in the input"
        return "\n".join([f"{head}:", *(f"  {p}" for p in self.problems)])


class StageError(MicromarketError):
    """A stage of the run failed for a reason that is not the user's input."""


class InfeasibleError(InputError):
    """The settings contradict one another (for instance floors that add up to more than the total)."""


def did_you_mean(word: object, options: Sequence[str]) -> str:
    """A hint for a mistyped name: the closest option if one is close, else all options.

    >>> did_you_mean("margin_rat", ["margin_rate", "discount_rate"])
    'one of margin_rate, discount_rate (did you mean margin_rate?)'
    """
    close = difflib.get_close_matches(str(word)[:_WORD], options, n=1, cutoff=0.6)
    hint = f" (did you mean {_short(close[0])}?)" if close else ""
    more = f" and {len(options) - _OPTIONS:,} more" if len(options) > _OPTIONS else ""
    return f"one of {', '.join(map(_short, options[:_OPTIONS]))}{more}{hint}"


_OPTIONS, _WORD = 40, 80


def _short(option: str) -> str:
    return printable(option if len(option) <= _WORD else option[: _WORD - 1] + "…")


def printable(text: str) -> str:
    """A text without what moves a terminal's cursor, colours it, turns its direction or can't be seen.

    >>> printable("a\x1b[31mb\u202ec")
    'a�[31mb�c'
    """
    return "".join(c if c.isprintable() else "�" for c in text)


def shown(value: object, width: int = 60) -> str:
    """A value from data as it may be printed: one line, bounded, quotes visible."""
    text = repr(value[: 4 * width]) if isinstance(value, str) else str(value)
    text = printable(text[: 4 * width])
    return text if len(text) <= width else text[: width - 1] + "…"
