"""What the Student is told after a turn."""

from ...messages.turns import Turn


def observation(turn: Turn) -> str:
    """What the tools said to a turn's calls; where there are several, in their order and named."""
    if len(turn.results) == 1:
        return f"Observation: {turn.results[0].output}"
    said = (
        f"{number} ({call.tool}): {result.output}"
        for number, (call, result) in enumerate(zip(turn.calls, turn.results, strict=True), start=1)
    )
    return "Observation:\n" + "\n".join(said)
