"""Ray's own limit for its node, once missed."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parent.parent.parent
FAILURES_AND_START = """
import asyncio, sys, time
from types import SimpleNamespace

import psutil
import ray
from ray._private import node, services

from agentfactory.configs.errors import AgentFactoryError
from agentfactory.runtime.on_ray.session import ray_session
from agentfactory.runtime.telemetry import LogSettings, configure_logging

failures, folder = int(sys.argv[1]), sys.argv[2]
late, began = 0.0, []
get_node = services.get_node


def not_there_yet(*args, **options):
    # The node is started and looked for as ever; what Ray waits for takes longer than its limit.
    global late
    if len(began) < failures:
        began.append(psutil.Process().children(recursive=True))
        late += 60.0
        raise RuntimeError("not there yet")
    return get_node(*args, **options)


services.get_node = not_there_yet
node.time = SimpleNamespace(time=time.time, sleep=time.sleep, monotonic=lambda: time.monotonic() + late)


async def ended(processes):
    async with asyncio.timeout(120):
        while any(each.is_running() and each.status() != "zombie" for each in processes):
            await asyncio.sleep(0.1)


async def main():
    configure_logging(LogSettings(folder="logs"))
    try:
        async with ray_session(temp_dir=folder) as session:
            assert session.started_here
            for processes in began:
                assert processes
                await ended(processes)
            assert ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=100) == 42
            print("started")
    except AgentFactoryError as error:
        print(error)
    for processes in began:
        await ended(processes)


asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (1, "started"),
        (2, "cannot start Ray on this machine: The current node timed out during startup"),
    ],
)
async def test_a_node_that_misses_rays_own_limit_is_started_once_more(
    failures: int, said: str, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with tempfile.TemporaryDirectory(prefix="af-ray-", dir="/tmp") as folder:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", FAILURES_AND_START, str(failures), folder],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.startswith(said)
    log = (tmp_path / "logs" / "driver.log").read_text(encoding="utf-8")
    assert log.count("starting it once more") == 1
