"""Whether confidence means what it says: answers sorted into ten intervals of confidence."""

from collections.abc import Sequence

from ...messages.routing import CalibrationBin

BINS = 10


def bin_of(confidence: float) -> int:
    """The interval [i/10, (i+1)/10) that holds it; 1.0 belongs to the last."""
    return min(BINS - 1, int(confidence * BINS))


def bounds_of(index: int) -> tuple[float, float]:
    """An interval's ends."""
    return index / BINS, (index + 1) / BINS


def calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Expected calibration error: Σ n_b/n · |right_b/n_b − mean confidence_b|; None without answers.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015.
    """
    told = sum(each.told for each in bins)
    if not told:
        return None
    return sum(abs(each.right - each.told * each.mean_confidence) for each in bins) / told
