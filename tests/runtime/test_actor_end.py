"""How Ray remembers an actor that has done its work: as one that ended, not as one that was killed."""

import json
from pathlib import Path

import pytest
import ray
from players import Add, Player, Register

from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.telemetry import LogSettings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


async def test_a_stopped_actor_ends_by_itself_and_says_how_it_stood(tmp_path: Path) -> None:
    logs = LogSettings(folder=str(tmp_path))
    async with ActorSystem.open("ray", namespace="ends", logging=logs) as system:
        register = await system.spawn(Register, name="ending-register")
        player = await system.spawn(Player, register, name="ending-player")
        await player.ask(Add(amount=1), timeout_s=20)
        await system.stop("ending-player")
    told = [json.loads(line) for line in (tmp_path / "ending-player.log").read_text().splitlines()]
    (line,) = [each for each in told if each["event"] == "actor stopped"]
    assert (line["handled"], line["restarts"]) == (1, 0)
    assert line["memory_mb"] > 0
    # Ray lists the actors of all namespaces, those of other tests too: these names are this test's alone
    ended = [each for each in ray._private.state.actors().values() if each["Name"].startswith("ending-")]
    assert [each["State"] for each in ended] == ["DEAD", "DEAD"]
    assert all("ray.kill" not in json.dumps(each, default=str) for each in ended)
