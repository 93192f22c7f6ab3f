"""Work of a tool that could hang, crash or eat memory: in killable forks of one warm process.

Consumes a job's input; produces its output, or a ToolError that says how it ended. Waits for a free slot,
then for the fork; unblocked by the deadline.
"""

import json
from typing import Final

from pydantic import JsonValue

from ....messages.turns import Failure
from ...sandbox.errors import SandboxError
from ...sandbox.fork_server_client import ForkServerClient
from ...sandbox.inside.protocol import Setup
from ..base import ToolError

_OUTPUT_BYTES: Final = 256 * 1024
_SAID: Final[dict[str, str]] = {
    "timeout": "it took longer than {limit:g} s",
    "memory": "it needs more memory than there is",
    "output": "the result is too long",
    "crashed": "it ended before its work did",
    "forbidden": "it tried what it must not",
}


class ForkedJobRunner:
    """One kind of work. `module` names a module whose `main()` calls `sandbox.inside.fork_server.serve`."""

    def __init__(
        self,
        module: str,
        memory_mb: int,
        max_parallel: int,
        allow_weak: bool,
        output_bytes: int = _OUTPUT_BYTES,
    ) -> None:
        setup: Setup = {
            "modules": [],
            "memory_mb": memory_mb,
            "reads": True,
            "stderr": True,
            "allow_weak": allow_weak,
        }
        self._server = ForkServerClient(module, setup, max(output_bytes, _OUTPUT_BYTES), max_parallel)

    def __repr__(self) -> str:
        return f"<ForkedJobRunner {self._server!r}>"

    async def start(self) -> None:
        """Start the warm process. Raises SandboxError if it cannot be confined here."""
        await self._server.start()

    async def do(self, job: JsonValue, timeout_s: float) -> str:
        """Have the job done. Raises ToolError with what is wrong with it, or how it ended."""
        try:
            outcome = await self._server.call(json.dumps(job), timeout_s)
        except SandboxError as error:
            raise ToolError(str(error), "crashed") from error
        if outcome.ending == "ok":
            return outcome.output
        failure: Failure = outcome.ending
        said = _SAID.get(outcome.ending, "").format(limit=timeout_s)
        raise ToolError(said or outcome.output or "it failed", failure)

    async def aclose(self) -> None:
        """Kill what runs."""
        await self._server.aclose()
