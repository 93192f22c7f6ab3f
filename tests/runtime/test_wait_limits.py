"""Every wait ends, also where the other side never does its part."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from players import Add, Note, Register, Total
from structlog.testing import capture_logs

from agentfactory.configs.chat_models import LlamaCppModelSettings
from agentfactory.configs.models import ModelSettings, TransformersEngineSettings, VllmEngineSettings
from agentfactory.messages.chat import UserMessage
from agentfactory.runtime import mailbox
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.daemon_thread import in_daemon_thread
from agentfactory.runtime.engines.base import EngineClosed
from agentfactory.runtime.engines.batching import engine as transformers_engine
from agentfactory.runtime.engines.batching import scheduler
from agentfactory.runtime.engines.batching.engine import TransformersEngine
from agentfactory.runtime.engines.vllm import engine as vllm_engine
from agentfactory.runtime.errors import ActorDown, ActorStopped, AskTimeout, MailboxFull, TransportError
from agentfactory.runtime.llm import open_model
from agentfactory.runtime.llm.backends import llama_cpp as llama_cpp_backend
from agentfactory.runtime.llm.errors import ModelTimeout
from agentfactory.runtime.mailbox import Envelope, Mailbox
from agentfactory.runtime.on_ray import channel, transport
from agentfactory.runtime.on_ray.channel import Channel
from agentfactory.runtime.on_ray.transport import RayTransport
from agentfactory.runtime.ref import Ref
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.telemetry import LogSettings
from agentfactory.runtime.transport import Resources
from tests.runtime.small_model import LIMIT_S, make_model, request

ROOT = Path(__file__).parents[2]


async def tell_many(ref: Ref | Channel, count: int = 10) -> None:
    for number in range(count):
        await ref.tell(Note(text=f"{number}"))


async def test_a_sender_gives_up_a_mailbox_that_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "PUT_LIMIT_S", 0.02)
    full = Mailbox("stuck", 1)
    full.put_nowait(Envelope(Note(text="first")))
    with pytest.raises(MailboxFull, match=r"'stuck' has made no room within 0\.02 s"):
        await full.put(Envelope(Note(text="second")))
    assert repr(full) == "<Mailbox stuck: 1/1 waiting, 0 senders blocked>"


async def test_a_sender_hears_of_the_end_of_an_actor_before_its_limit() -> None:
    full = Mailbox("ends", 1)
    full.put_nowait(Envelope(Note(text="first")))
    waiting = asyncio.create_task(full.put(Envelope(Note(text="second"))))
    await asyncio.sleep(0)
    assert full.statistics().blocked_senders == 1
    full.close(lambda: ActorStopped("ends"))
    with pytest.raises(ActorStopped):
        await waiting


class Stuck(Actor):
    """Takes a note and never comes back."""

    async def note(self, message: Note) -> None:
        await asyncio.Event().wait()


async def test_a_teller_of_a_stuck_actor_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "PUT_LIMIT_S", 0.02)
    async with ActorSystem.open("local", mailbox=1) as system:
        stuck = await system.spawn(Stuck, name="stuck")
        with pytest.raises(MailboxFull, match="'stuck' has made no room"):
            await tell_many(stuck)


async def test_a_broadcast_reaches_the_members_behind_one_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mailbox, "PUT_LIMIT_S", 0.02)
    noted: asyncio.Queue[str] = asyncio.Queue(4)

    class Notes(Stuck):
        def __init__(self, stuck: list[bool]) -> None:
            self._stuck = stuck.pop()

        async def note(self, message: Note) -> None:
            if self._stuck:
                await super().note(message)
            await noted.put(message.text)

    async with ActorSystem.open("local", mailbox=1) as system:
        pool = await system.spawn_pool(Notes, [False, True], name="notes", copies=2)
        for text in "ab":
            await pool.broadcast(Note(text=text))
        with pytest.raises(MailboxFull, match="'notes-0'"):
            await pool.broadcast(Note(text="c"))
        assert [await noted.get() for _ in "abc"] == ["a", "b", "c"]


async def test_a_teller_over_ray_gives_up_a_process_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never_found(self: Channel) -> object:
        return await asyncio.Event().wait()

    monkeypatch.setattr(channel, "PUT_LIMIT_S", 0.02)
    monkeypatch.setattr(channel, "OUTBOX", 2)
    monkeypatch.setattr(channel, "MAX_BATCH", 1)
    monkeypatch.setattr(Channel, "_find", never_found)
    away = Channel("away", "away", "nowhere", asyncio.get_running_loop())
    with pytest.raises(MailboxFull, match=r"'away' has made no room within 0\.02 s"):
        await tell_many(away)
    away.close()


class HangsAgain(Actor):
    """Its first life starts, and ends over a message; none of the later ones gets through `start`."""

    def __init__(self, lives: list[int]) -> None:
        self._lives = lives

    async def start(self) -> None:
        self._lives.append(1)
        if len(self._lives) > 1:
            await asyncio.Event().wait()

    async def add(self, message: Add) -> Total:
        raise RuntimeError("the first life ends")


async def test_an_actor_that_hangs_in_its_new_start_counts_as_dead() -> None:
    lives: list[int] = []
    async with ActorSystem.open("local", max_restarts=2, backoff_s=0.0) as system:
        actor = await system.spawn(HangsAgain, lives, name="actor", start_timeout_s=0.5)
        with pytest.raises(ActorDown, match="the first life ends"):
            await actor.ask(Add(amount=1), timeout_s=LIMIT_S)
        with pytest.raises(ActorDown, match=r"'actor' did not start within 0\.5 s") as down:
            await actor.ask(Add(amount=1), timeout_s=LIMIT_S)
        assert down.value.permanent
    assert len(lives) == 3


async def test_an_engine_is_closed_although_its_thread_hangs_in_a_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hanging, release = threading.Event(), threading.Event()

    def hang_in_a_step(self: object) -> None:
        hanging.set()
        release.wait(LIMIT_S)

    monkeypatch.setattr(scheduler.Scheduler, "step", hang_in_a_step)
    monkeypatch.setattr(transformers_engine, "CLOSE_S", 0.1)
    model = ModelSettings(source=str(make_model(tmp_path).folder), device="cpu")
    engine = TransformersEngine(model, TransformersEngineSettings())
    await engine.start()
    asking = asyncio.create_task(engine.generate(request("Task:")))
    assert await asyncio.to_thread(hanging.wait, LIMIT_S)
    await engine.aclose()
    with pytest.raises(EngineClosed, match="closed while this ran"):
        await asking
    release.set()


async def test_a_vllm_that_never_shuts_down_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "SHUTDOWN_S", 0.05)
    release = threading.Event()

    async def ignore_being_cancelled() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(LIMIT_S)
            except asyncio.CancelledError:
                continue

    handler = asyncio.create_task(ignore_being_cancelled())
    await asyncio.sleep(0)
    engine = vllm_engine.VllmEngine(ModelSettings(), VllmEngineSettings())
    engine._llm = SimpleNamespace(  # type: ignore[assignment]
        output_handler=handler, shutdown=lambda limit_s: release.wait(LIMIT_S)
    )
    await engine.aclose()
    assert not handler.done()
    release.set()
    handler.cancel()
    await asyncio.wait((handler,))


class HangingLlama:
    """Stands in for llama_cpp.Llama, whose library hangs within a token."""

    release = threading.Event()

    def __init__(self, **arguments: object) -> None: ...

    def create_chat_completion(self, **body: object) -> Iterator[dict[str, object]]:
        HangingLlama.release.wait(LIMIT_S)
        yield {"model": "f", "choices": [{"delta": {"content": "late"}, "finish_reason": "stop"}]}

    def close(self) -> None: ...


@pytest.fixture
async def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LlamaCppModelSettings]:
    library = ModuleType("llama_cpp")
    library.__spec__ = SimpleNamespace(name="llama_cpp")  # type: ignore[assignment]
    library.Llama = HangingLlama  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    (tmp_path / "f.gguf").write_bytes(b"GGUF")
    HangingLlama.release.clear()
    yield LlamaCppModelSettings(file=str(tmp_path / "f.gguf"), timeout_s=0.5)
    HangingLlama.release.set()


async def test_a_call_keeps_its_deadline_although_llama_cpp_hangs(gguf: LlamaCppModelSettings) -> None:
    async with open_model(gguf) as model:
        for _ in range(2):  # the second waits for the model that the first has left behind
            with pytest.raises(ModelTimeout):
                await model.chat([UserMessage(text="hi")])
        HangingLlama.release.set()


async def test_a_model_is_closed_although_llama_cpp_hangs(
    gguf: LlamaCppModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp_backend, "CLOSE_S", 0.05)
    async with open_model(gguf) as model:
        with pytest.raises(ModelTimeout):
            await model.chat([UserMessage(text="hi")])


@pytest.fixture
def silent_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayTransport]:
    """A transport none of whose calls to Ray comes back."""
    release = threading.Event()
    monkeypatch.setattr(transport, "CONTROL_TIMEOUT_S", 0.05)
    made = RayTransport("nowhere", LogSettings(), 30.0)
    for owner, call in ((made._placements, "reserve"), (made._placements, "release"), (made, "_create")):
        monkeypatch.setattr(owner, call, lambda *_: release.wait(LIMIT_S))
    yield made
    release.set()


async def test_a_ray_that_does_not_say_whether_it_has_room_is_given_up(silent_ray: RayTransport) -> None:
    with pytest.raises(TransportError, match=r"Ray did not say within 0\.05 s whether it has room"):
        await silent_ray.reserve("engines", [Resources()], 0.05)


async def test_a_ray_that_does_not_take_an_actor_is_given_up(silent_ray: RayTransport) -> None:
    system = ActorSystem(silent_ray, 4, 0, 0.0)
    with pytest.raises(AskTimeout, match=r"Ray did not take 'register' within 0\.05 s"):
        await system.spawn(Register, name="register", start_timeout_s=0.05)


async def test_a_system_ends_although_ray_does_not_answer(silent_ray: RayTransport) -> None:
    with capture_logs() as said:
        await silent_ray.aclose()
    assert [(each["event"], each["log_level"]) for each in said] == [
        ("Ray does not take back what was set aside", "error")
    ]


async def test_what_a_call_in_a_thread_returns_or_raises_comes_back() -> None:
    assert await in_daemon_thread(lambda: 6 * 7) == 42
    empty: dict[str, int] = {}
    with pytest.raises(KeyError, match="missing"):
        await in_daemon_thread(lambda: empty["missing"])


@pytest.mark.parametrize(
    "call", ["in_daemon_thread(sys.stdin.buffer.readline)", "anext(read_pipe())"], ids=["thread", "piped"]
)
def test_a_process_ends_although_a_call_in_a_thread_never_returns(call: str) -> None:
    program = f"""
import asyncio, sys
from agentfactory.repl.input_source import read_pipe
from agentfactory.runtime.daemon_thread import in_daemon_thread
async def main():
    async with asyncio.timeout(0.1):
        await {call}
try:
    asyncio.run(main())
except TimeoutError:
    print("ended", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            process.wait(LIMIT_S)  # nothing is ever written to it
            assert process.stdout is not None
            assert process.stdout.read() == b"ended\n"
        finally:
            process.kill()
