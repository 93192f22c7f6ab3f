"""The domains of an evaluation, the same in the terminal, the charts and the page."""

from collections.abc import Iterable

from ..messages.runs import DomainScore, RoundFinished, RoundSummary


def domain_names(rounds: Iterable[RoundFinished | RoundSummary]) -> list[str]:
    """The domains that were evaluated; none where there is only one, which the whole says all about."""
    names = list(dict.fromkeys(score.domain for one in rounds for score in one.domains))
    return names if len(names) > 1 else []


def score_of(one: RoundFinished | RoundSummary, domain: str) -> DomainScore | None:
    """A domain's part of a round; None where nothing of it was judged."""
    return next((score for score in one.domains if score.domain == domain), None)
