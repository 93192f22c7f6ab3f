"""The supervisor as a process: `python -m cluster.supervise FOLDER`."""

import asyncio
import os
import sys
from pathlib import Path

from cluster.services import PLAN, Plan
from cluster.supervisor import Supervisor
from configs.errors import AgentFactoryError


def main(folder: Path) -> int:
    """Supervise what the folder's plan says until SIGTERM; returns the exit code."""
    plan = Plan.model_validate_json((folder / PLAN).read_bytes())
    state = plan.state.model_copy(update={"pid": os.getpid()})
    try:
        asyncio.run(Supervisor(folder, state, plan.services).run())
    except AgentFactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
