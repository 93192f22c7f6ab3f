"""Circuit breaker: a model that keeps failing is left alone for a while, then one request tries it again."""

from ....configs.chat_models import CircuitSettings
from ....messages.routing import CircuitState


class CircuitBreaker:
    """closed → (failures in a row) → open → (a pause) → trial → closed, or open again.

    circuit = Circuit(CircuitSettings(open_after=1, pause_s=30))
    circuit.begin(now=0)
    circuit.failed(now=1)
    circuit.refusal(now=2)    # "left alone for 29 s more, after 1 failure in a row"
    circuit.refusal(now=31)   # None: it may be tried
    """

    def __init__(self, settings: CircuitSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._open_until = 0.0
        self._trying = False

    def state(self, now: float) -> CircuitState:
        """`now`, here and below: seconds of a clock that never goes back."""
        if now < self._open_until:
            return "open"
        return "trial" if self._failures >= self._settings.open_after else "closed"

    def refusal(self, now: float) -> str | None:
        """The reason not to ask now; None if it may be asked."""
        state = self.state(now)
        if state == "open":
            times = f"{self._failures} failure{'s' if self._failures != 1 else ''} in a row"
            return f"left alone for {self._open_until - now:.0f} s more, after {times}"
        if state == "trial" and self._trying:
            return "being tried again by another request"
        return None

    def begin(self, now: float) -> None:
        """Begin a call; `succeeded`, `failed` or `abandoned` follows."""
        self._trying = self.state(now) == "trial"

    def succeeded(self) -> None:
        """End a call that was answered: the circuit closes."""
        self._failures = 0
        self._trying = False
        self._open_until = 0.0

    def failed(self, now: float, quiet_s: float | None = None) -> None:
        """End a call that failed by the model's fault; `quiet_s` is what the server asked for."""
        self._failures += 1
        self._trying = False
        if self._failures >= self._settings.open_after:
            self._open_until = max(self._open_until, now + self._settings.pause_s)
        if quiet_s is not None:
            self._open_until = max(self._open_until, now + quiet_s)

    def abandoned(self) -> None:
        """End a call that says nothing about the model."""
        self._trying = False
