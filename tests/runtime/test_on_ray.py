"""What only Ray can show: processes that are lost, scripts, the terminal, sessions."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ray
from players import Add, Block, Hold, ListNotes, Note, Player, Register, Say, Total, WaitFor

from agentfactory.runtime.errors import ActorDown, TransportError
from agentfactory.runtime.on_ray import transport
from agentfactory.runtime.on_ray.session import MAX_FOLDER, ray_session
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import asyncio
from agentfactory.configs.errors import AgentFactoryError
from agentfactory.messages.base import Message, Request
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.errors import ActorDown
from agentfactory.runtime.on_ray.session import ray_session
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.telemetry import LogSettings

class Inner(Message):
    text: str

class Answer(Message):
    inner: Inner

class Question(Request[Answer]):
    inner: Inner

class Die(Request[Answer]):
    pass

class Mine(AgentFactoryError):
    pass

class Answerer(Actor):
    async def answer(self, message: Question) -> Answer:
        if not message.inner.text:
            raise Mine("an empty question")
        return Answer(inner=Inner(text=message.inner.text.upper()))

    async def die(self, message: Die) -> Answer:
        import os
        os._exit(1)

async def main() -> None:
    logs = LogSettings(folder="logs")
    async with ray_session(), ActorSystem.open("ray", max_restarts=0, logging=logs) as system:
        answerer = await system.spawn(Answerer, name="answerer")
        answer = await answerer.ask(Question(inner=Inner(text="why")), timeout_s=120)
        assert type(answer) is Answer
        assert answer == Answer(inner=Inner(text="WHY"))
        try:
            await answerer.ask(Question(inner=Inner(text="")), timeout_s=120)
        except Mine as error:
            print(error)
        try:
            await answerer.ask(Die(), timeout_s=120)
        except ActorDown as down:
            print(down.last_message, down.permanent)
        await asyncio.sleep(1)  # Ray's own message about the dead worker comes about now

asyncio.run(main())
"""


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(path)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False
    )


async def test_a_users_script_may_define_everything_and_its_terminal_stays_clean(tmp_path: Path) -> None:
    done = await asyncio.to_thread(run_script, SCRIPT, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("an empty question\nDie True\n", "", 0)
    assert "A worker died" in (tmp_path / "logs" / "driver.log").read_text(encoding="utf-8")


async def test_a_lost_process_without_restarts_is_gone_for_good() -> None:
    async with ActorSystem.open("ray", max_restarts=0) as system:
        register = await system.spawn(Register, name="register")
        player = await system.spawn(Player, register, name="player")
        holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
        await register.ask(WaitFor(text="holding it"), timeout_s=120)
        await system.kill("player")
        with pytest.raises(ActorDown, match=r"died while handling Hold, \d+ MB resident") as caught:
            await holding
        assert caught.value.permanent
        with pytest.raises(ActorDown, match="it will not be restarted"):
            await player.ask(Add(amount=1), timeout_s=120)
        assert (await system.wait_fatal()).actor == "player"


async def test_messages_sent_while_the_process_is_away_arrive_when_it_is_back() -> None:
    async with ActorSystem.open("ray") as system:
        register = await system.spawn(Register, name="register")
        player = await system.spawn(Player, register, name="player")
        holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
        await register.ask(WaitFor(text="holding it"), timeout_s=120)
        await system.kill("player")
        with pytest.raises(ActorDown):
            await holding
        for number in range(50):
            await player.tell(Note(text=f"{number:02}"))
        assert await player.ask(Add(amount=1), timeout_s=120) == Total(value=1)
        await register.ask(WaitFor(text="49"), timeout_s=120)
        texts = (await register.ask(ListNotes(), timeout_s=120)).texts
        assert [text for text in texts if text.isdigit()] == [f"{n:02}" for n in range(50)]
        await _talks_from_another_loop(player)
        await _survives_what_cannot_be_pickled(player)
        await _ends_although_it_is_stuck(system, player, register)


async def _talks_from_another_loop(player: ActorRef) -> None:
    totals: list[int] = []

    def talk() -> None:
        totals.append(asyncio.run(player.ask(Add(amount=1), timeout_s=120)).value)

    thread = threading.Thread(target=talk)
    thread.start()
    await asyncio.to_thread(thread.join, 20)
    assert totals == [2]
    assert (await player.ask(Add(amount=1), timeout_s=120)).value == 3


async def _survives_what_cannot_be_pickled(player: ActorRef) -> None:
    bad = Say.model_construct(data=threading.Lock())  # type: ignore[arg-type]
    results = await asyncio.gather(
        player.ask(Add(amount=1), timeout_s=120),
        player.ask(bad, timeout_s=120),
        player.ask(Add(amount=1), timeout_s=120),
        return_exceptions=True,
    )
    assert (results[0], results[2]) == (Total(value=4), Total(value=5))
    assert isinstance(results[1], TransportError)
    assert "Say cannot be sent to 'player': it cannot be pickled" in str(results[1])


async def _ends_although_it_is_stuck(system: ActorSystem, player: ActorRef, register: ActorRef) -> None:
    blocking = asyncio.create_task(player.ask(Block(seconds=3600), timeout_s=120))
    await register.ask(WaitFor(text="blocking"), timeout_s=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "CONTROL_TIMEOUT_S", 0.5)
        await system.stop("player", grace_s=0)
    result = (await asyncio.gather(blocking, return_exceptions=True))[0]
    assert type(result).__name__ == "ActorStopped"


async def test_a_session_inside_a_session_leaves_ray_running() -> None:
    async with ray_session() as session:
        assert not session.started_here
        assert session.address
    assert ray.is_initialized()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return monkeypatch


async def test_a_folder_too_long_for_sockets_is_refused(no_ray: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransportError, match=f"unix sockets go into it: give one of at most {MAX_FOLDER}"):
        async with ray_session(temp_dir="/tmp/" + "x" * 60):
            pass
