"""The python tool: a cell of Python in the sandbox."""

from textwrap import dedent
from typing import Final

from ....configs.roles import SandboxSettings
from ....messages.chat import JsonObject
from ....messages.turns import ToolResult
from ...sandbox.python import PythonSandbox
from ..base import ToolError, failed
from ..definition import SharedTool
from ..parameters import Parameter, Parameters

NO_OUTPUT: Final = "(no output)"
"""The observation after code that printed nothing and ended on no value."""
CODE: Final = Parameters({"code": Parameter(str)})
"""What a tool that runs code takes."""


class PythonTool:
    """Runs Python; printed text, or else the value of the last expression, is the observation."""

    name = "python"
    parameters: JsonObject | None = CODE.schema

    def __init__(self, settings: SandboxSettings, sandbox: PythonSandbox | None = None) -> None:
        """`sandbox` is somebody else's to start and close; without one, the tool has its own."""
        self._sandbox = sandbox or PythonSandbox(settings)
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
        try:
            code = read_code(text)
        except ToolError as error:
            return failed(str(error), error.failure)
        result = await self._sandbox.run(code)
        if result.ok and not result.output:
            return result.model_copy(update={"output": NO_OUTPUT})
        return result

    async def aclose(self) -> None:
        """Kill what runs."""
        await self._sandbox.aclose()


def read_code(text: str) -> str:
    """The code in a text, or in a JSON object; a common indentation is taken off. Raises ToolError."""
    code = str(CODE.read(text)["code"]) if text.strip() else ""
    return dedent(code).strip() if code[:1].isspace() else code


PYTHON: Final = SharedTool(
    spec=lambda settings: PythonTool(settings.sandbox),
    open=lambda host: PythonTool(host.settings.sandbox, host.python_sandbox),
    limits=lambda settings: (settings.sandbox,),
    prints=True,
)
