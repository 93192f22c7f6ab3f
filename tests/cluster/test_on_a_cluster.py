"""An ordinary Ray application: submitted as a job, and seen in the dashboard."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentfactory.messages.runs import RunResult
from tests.agentfactory.test_cli import TINY_SETTINGS
from tests.free_ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MEASURED = {"agentfactory_engine_generated_tokens_total engine-0", "agentfactory_handled_total sink"}
LIMIT_S = 300
ROOT = Path(__file__).parents[2]
ROLES = {"coordinator", "teacher", "student-0", "verifier-0", "sink", "trainer", "engine-0", "topics"}


class Head(NamedTuple):
    """A running cluster of one node."""

    address: str
    dashboard: str
    metrics: str
    environment: dict[str, str]
    token: str


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head`, on ports of its own, with a token of its own."""
    token_file = tmp_path_factory.mktemp("ray") / "token"
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    environment.pop("RAY_ADDRESS", None)
    token_file.write_text("a" * 64)
    ray = [str(Path(sys.executable).with_name("ray"))]
    port, dashboard, agent, metrics = (str(free_port()) for _ in range(4))
    ports = ["--port", port, "--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent]
    ports += ["--metrics-export-port", metrics]
    folder = tempfile.mkdtemp(prefix="af-", dir="/tmp")  # short: unix sockets go into it
    options = ["--head", *ports, "--num-cpus", "2", "--disable-usage-stats", "--temp-dir", folder]
    # `--block` keeps the cluster in one process tree: `ray stop` would end every Ray on this machine
    cluster = subprocess.Popen(
        [*ray, "start", *options, "--block"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    found = Head(
        f"127.0.0.1:{port}",
        f"http://127.0.0.1:{dashboard}",
        f"http://127.0.0.1:{metrics}",
        environment,
        token_file.read_text(),
    )
    try:
        wait_until_up(found, cluster)
        yield found
    finally:
        cluster.terminate()
        try:
            cluster.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(cluster.pid, signal.SIGKILL)
            cluster.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_up(head: Head, cluster: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            names_in_the_dashboard(head)
        except OSError as error:
            if cluster.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the cluster did not come up") from error
            time.sleep(0.5)  # nothing tells when a dashboard begins to answer
        else:
            return


def test_a_submitted_job_runs_and_its_actors_and_their_numbers_are_seen(head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    entry = [sys.executable, "-m", "agentfactory", "evolve", "laptop", "--rounds", "1"]
    entry += ["--run-dir", str(folder), *TINY_SETTINGS]
    ray = str(Path(sys.executable).with_name("ray"))
    submit = [ray, "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT)]
    submitting = subprocess.Popen(
        [*submit, "--", *entry],
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        seen: set[str] = set()
        measured: set[str] = set()
        deadline = time.monotonic() + LIMIT_S
        while submitting.poll() is None and time.monotonic() < deadline:
            if seen >= ROLES and measured >= MEASURED:
                break
            seen |= names_in_the_dashboard(head)
            measured |= metrics_above_zero(head)
            time.sleep(0.5)  # the dashboard itself looks at its actors once a second
        out, _ = submitting.communicate(timeout=LIMIT_S)
    finally:
        submitting.kill()
    assert submitting.returncode == 0, out
    assert seen >= ROLES
    assert measured >= MEASURED
    (line,) = [line for line in out.splitlines() if "version 1 " in line]
    assert "\x1b" not in line
    assert len(RunResult.model_validate_json((folder / "run.json").read_bytes()).rounds) == 2


def metrics_above_zero(head: Head) -> set[str]:
    """As Prometheus would read them: name and actor."""
    try:
        with urllib.request.urlopen(f"{head.metrics}/metrics", timeout=30) as response:
            text = response.read().decode()
    except urllib.error.URLError:
        return set()  # the node's agent comes up a little later than the dashboard
    found = re.finditer(r'^ray_(agentfactory_\w+)\{[^}]*\bactor="([^"]+)"[^}]*\} (\S+)$', text, re.MULTILINE)
    return {
        f"{name} {actor}" for name, actor, value in (match.groups() for match in found) if float(value) > 0
    }


def names_in_the_dashboard(head: Head) -> set[str]:
    url = f"{head.dashboard}/api/v0/actors?limit=1000"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {head.token}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    return {str(actor["name"]) for actor in answer["data"]["result"]["result"]}
