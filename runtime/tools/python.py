"""The python tool: a cell of Python in the sandbox."""

from textwrap import dedent
from typing import Final

from configs.roles import SandboxSettings
from messages.turns import ToolResult
from runtime.sandbox.python import PythonSandbox

NO_OUTPUT: Final = "(no output)"
"""The observation after code that printed nothing and ended on no value."""


class PythonTool:
    """Runs Python; printed text, or else the value of the last expression, is the observation."""

    name = "python"

    def __init__(self, settings: SandboxSettings) -> None:
        self._sandbox = PythonSandbox(settings)
        self.description = (
            "runs Python code and answers with what it printed. Each call starts anew. "
            f"Modules: {', '.join(settings.modules)}."
        )

    def __repr__(self) -> str:
        return f"<PythonTool {self._sandbox!r}>"

    @property
    def sandbox(self) -> PythonSandbox:
        """Where the code runs."""
        return self._sandbox

    async def start(self) -> None:
        """Start the sandbox. Raises SandboxError if the isolation asked for is not there."""
        await self._sandbox.start()

    async def call(self, text: str) -> ToolResult:
        """Run the code; a common indentation is taken off."""
        result = await self._sandbox.run(dedent(text).strip() if text[:1].isspace() else text)
        if result.ok and not result.output:
            return result.model_copy(update={"output": NO_OUTPUT})
        return result

    async def aclose(self) -> None:
        """Kill what runs."""
        await self._sandbox.aclose()
