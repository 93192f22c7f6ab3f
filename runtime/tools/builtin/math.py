"""The math tool: sympy, in processes that can be killed."""

from typing import Final, Literal

from ....configs.tools import MathToolSettings
from ..base import Tool, sanitize_output
from ..definition import SharedTool, ToolHost
from ..function_tool import tool
from ..jobs.runner import ForkedJobRunner

_MODULE: Final = "agentfactory.runtime.tools.jobs.symbolic_math"


class MathTool:
    """Calculates with symbols. A part of the box that its tool is in."""

    def __init__(self, settings: MathToolSettings, allow_weak: bool = False) -> None:
        self._settings = settings
        self._jobs = ForkedJobRunner(_MODULE, settings.memory_mb, settings.max_parallel, allow_weak)

    def __repr__(self) -> str:
        return f"<MathTool {self._jobs!r}>"

    async def start(self) -> None:
        """Start the warm process (a second). Raises SandboxError if it cannot be confined here."""
        await self._jobs.start()

    @tool
    async def math(
        self,
        expression: str,
        action: Literal["evaluate", "simplify", "solve", "parse"] = "evaluate",
        symbols: str = "",
    ) -> str:
        """Calculates exactly, with symbols: evaluates, simplifies, solves equations and inequalities.

        Args:
            expression: plain notation, such as 2x(x+1), sqrt(2)/2, x^2 = 4, or x+y=3, x-y=1
            action: what to do with it; parse tells how it is understood
            symbols: for evaluate the values, such as x=2, y=1/3; for solve the unknowns, such as x, y
        """
        line = await self._jobs.do([action, expression, symbols], self._settings.timeout_s)
        return sanitize_output(line, self._settings.max_chars)

    async def aclose(self) -> None:
        """Kill what runs."""
        await self._jobs.aclose()


def _open(host: ToolHost) -> Tool:
    return host.share(MathTool(host.settings.toolbox.math, host.settings.sandbox.allow_weak)).math


MATH: Final = SharedTool(
    spec=lambda _: MathTool.math,
    open=_open,
    limits=lambda settings: (settings.toolbox.math,),
)
