"""Formats of numbers and domains, the same in the terminal, the charts and the page."""

from collections.abc import Iterable
from typing import Final

from ..messages.runs import DomainScore, RoundFinished, RoundSummary

THOUSANDS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def percent(share: float) -> str:
    """A share of 1.

    >>> percent(0.2567)
    '25.7%'
    """
    return f"{100 * share:.1f}%"


def interval(ci95: tuple[float, float]) -> str:
    """The ends of an interval of shares, in percent; the unit stands with the share itself.

    >>> interval((0.2136, 0.3124))
    '21.4–31.2'
    """
    return f"{100 * ci95[0]:.1f}–{100 * ci95[1]:.1f}"


def duration(seconds: float) -> str:
    """Seconds, and minutes and hours where they are many.

    >>> [duration(s) for s in (0.04, 5.23, 83, 7325, 200_000)]
    ['0.04 s', '5.2 s', '1 min 23 s', '2 h 02 min', '2 d 7 h']
    """
    if seconds < 60:
        return f"{seconds:.{1 if seconds >= 0.1 or seconds == 0 else 2}f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def compact_duration(seconds: float) -> str:
    """The same in at most seven characters, for tables.

    >>> [compact_duration(s) for s in (0.0, 0.04, 5.23, 83, 7325, 200_000)]
    ['–', '0.04 s', '5.2 s', '1m 23s', '2h 02m', '2d 7h']
    """
    if seconds < 60:
        return duration(seconds) if seconds else "–"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def count(number: float) -> str:
    """A number of things; large ones with a prefix.

    >>> [count(n) for n in (7, 9999, 12_345, 3_200_000)]
    ['7', '9,999', '12.3k', '3.2M']
    """
    for size, prefix in THOUSANDS:
        if abs(number) >= max(size, 10_000):
            return f"{number / size:.1f}{prefix}"
    return f"{round(number):,}"


def figure(number: float | None, digits: int) -> str:
    """A number that may be unknown.

    >>> figure(0.4567, 2), figure(None, 2)
    ('0.46', '–')
    """
    return "–" if number is None else f"{number:.{digits}f}"


def plural(number: int, one: str, many: str = "") -> str:
    """A count with its noun.

    >>> plural(1, "round"), plural(3, "round")
    ('1 round', '3 rounds')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def megabytes(number: float) -> str:
    """Memory given in MB.

    >>> megabytes(1536)
    '1.5 GB'
    """
    return f"{number / 1024:.1f} GB" if number >= 1024 else f"{number:.0f} MB"


def plain(text: str, limit: int) -> str:
    """Untrusted text on one line, without anything that a terminal would obey.

    >>> plain("a\\x1b[31m\\nb", 20)
    'a [31m b'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def domain_names(rounds: Iterable[RoundFinished | RoundSummary]) -> list[str]:
    """The domains that were evaluated; none where there is only one, which the whole says all about."""
    names = list(dict.fromkeys(score.domain for one in rounds for score in one.domains))
    return names if len(names) > 1 else []


def score_of(one: RoundFinished | RoundSummary, domain: str) -> DomainScore | None:
    """A domain's part of a round; None where nothing of it was judged."""
    return next((score for score in one.domains if score.domain == domain), None)
