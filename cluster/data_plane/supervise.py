"""The supervisor as a process of its own: `python -m agentfactory.cluster.data_plane.supervise FOLDER`.

Returns once a detached supervisor holds the folder, so that whoever asked need not wait for its end.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from ...configs.errors import AgentFactoryError
from .process_supervisor import ProcessSupervisor
from .services import PLAN, ServicePlan


def main(folder: Path) -> int:
    """Leave a supervisor behind; 0 once it holds the folder, 2 if it cannot."""
    plan = ServicePlan.model_validate_json((folder / PLAN).read_bytes())
    held, holds = os.pipe()
    if os.fork() == 0:
        os.close(held)
        os._exit(_supervise(folder, plan, holds))
    os.close(holds)
    return 0 if os.read(held, 1) else 2


def _supervise(folder: Path, plan: ServicePlan, holds: int) -> int:
    os.setsid()
    state = plan.state.model_copy(update={"pid": os.getpid()})
    try:
        asyncio.run(ProcessSupervisor(folder, state, plan.services).run(partial(os.write, holds, b"1")))
    except AgentFactoryError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
