"""How far the Student's confidence can be trusted, by version."""

from ..training.calibration import Calibration, calibrate
from .held_out import HeldOut


def calibrations(held_out: HeldOut | None) -> list[tuple[int, Calibration]]:
    """Of each of the two versions that has answers with a confidence."""
    if held_out is None:
        return []
    sides = (held_out.before, held_out.after) if held_out.compares else (held_out.after,)
    return [(side.version, calibrate(side.judged)) for side in sides if side.judged]
