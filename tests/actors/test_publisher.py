"""Which versions the engines have, who is told to use which, and what becomes of those nobody needs."""

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from agentfactory.actors.coordinator.publisher import PolicyPublisher
from agentfactory.actors.coordinator.training_loop import engines_asleep
from agentfactory.bridge.client.tiered_store import TieredStore
from agentfactory.bridge.errors import StoreError
from agentfactory.cluster.adapters import StoredAdapters
from agentfactory.configs.data import DataSettings
from agentfactory.messages.adapters import (
    AdapterLoaded,
    AdapterPublished,
    AdapterRef,
    FetchAdapter,
    LoadAdapter,
    Policy,
    SetPolicyVersion,
    UnloadAdapter,
)
from agentfactory.messages.base import Done, Message
from agentfactory.messages.generation import SleepEngine, WakeEngine
from agentfactory.runtime.engines.base import AdapterRejected, UnknownAdapter
from agentfactory.runtime.ref import ActorRef, PoolRef
from agentfactory.runtime.topics import Publish
from tests.actors.data_plane import Plane
from tests.actors.peers import Peer

LIMIT_S = 60
TAG = "adapters/run"


class Replica:
    """An engine, as far as its adapters are concerned."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.heard: list[Message] = []
        self.refusals = 0
        """Loads that it refuses from now on."""
        self.silent = False
        """Whether it takes what it is sent without saying so."""
        self.opened: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
        """Loads wait for it."""

    async def tell(self, message: Message) -> None:
        raise AssertionError("an engine answers")

    async def ask(self, message: Message, timeout_s: float) -> Message:
        self.heard.append(message)
        match message:
            case LoadAdapter() | FetchAdapter():
                await self.opened()
                if self.refusals:
                    self.refusals -= 1
                    raise AdapterRejected("it is damaged")
                self.names = sorted({*self.names, message.adapter.name or ""})
            case UnloadAdapter():
                if message.name not in self.names:
                    raise UnknownAdapter(message.name)
                self.names.remove(message.name)
            case _:
                return Done()
        return AdapterLoaded(names=() if self.silent else tuple(self.names))


class Scene:
    """Two engines, and those who are told which version to use."""

    def __init__(self) -> None:
        self.engines = (Replica(), Replica())
        self.students, self.teacher, self.hub = Peer(), Peer(), Peer()
        self.pool = PoolRef("engine", tuple(ActorRef(f"engine-{n}", e) for n, e in enumerate(self.engines)))
        self.publisher = PolicyPublisher(
            self.pool, self.students.pool(), self.teacher.ref("teacher"), self.hub.topics()
        )

    @property
    def names(self) -> list[list[str]]:
        """What each engine has."""
        return [engine.names for engine in self.engines]

    def published(self) -> list[AdapterRef]:
        events = [message.event for message in self.hub.heard if isinstance(message, Publish)]
        return [event.adapter for event in events if isinstance(event, AdapterPublished)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
async def tiers() -> AsyncIterator[TieredStore]:
    async with Plane().open(DataSettings()) as opened:
        yield opened


def version(number: int, policy: Policy = "student") -> LoadAdapter:
    adapter = AdapterRef(policy=policy, version=number)
    return LoadAdapter(adapter=adapter, config_json=b"{}", weights=b"%d" % number)


def use(number: int, *avoid: str, policy: Policy = "student") -> SetPolicyVersion:
    return SetPolicyVersion(adapter=AdapterRef(policy=policy, version=number), avoid=avoid)


async def test_a_version_is_in_use_once_every_engine_has_it(scene: Scene) -> None:
    assert scene.publisher.current("student") == AdapterRef(policy="student", version=0)
    await scene.publisher.publish(version(1))
    await scene.publisher.publish(version(4, "teacher"))
    assert scene.names == [["student-v1", "teacher-v4"]] * 2
    assert (scene.students.heard, scene.teacher.heard) == ([use(1)], [use(4, policy="teacher")])
    assert scene.published() == [version(1).adapter, version(4, "teacher").adapter]
    assert scene.publisher.current("student") == version(1).adapter
    assert scene.publisher.current("teacher") == version(4, "teacher").adapter


@pytest.mark.parametrize("silent", [False, True])
async def test_a_version_that_no_engine_takes_changes_nothing(scene: Scene, silent: bool) -> None:
    await scene.publisher.publish(version(1))
    for engine in scene.engines:
        engine.silent, engine.refusals = silent, 0 if silent else 2
    with pytest.raises(AdapterRejected, match="did not confirm student-v2" if silent else "it is damaged"):
        await scene.publisher.publish(version(2))
    assert scene.publisher.current("student") == version(1).adapter
    assert scene.students.heard == [use(1)]
    assert scene.published() == [version(1).adapter]


async def test_an_engine_that_cannot_load_a_version_is_avoided_until_it_can(scene: Scene) -> None:
    scene.engines[1].refusals = 3
    await scene.publisher.publish(version(1))
    assert scene.students.heard == [use(1, "engine-1")], "it was asked twice"
    await scene.publisher.reload()
    assert scene.students.heard[1:] == [use(1, "engine-1")], "and a third time"
    await scene.publisher.publish(version(2))
    assert scene.names == [["student-v1", "student-v2"]] * 2, "a new version is a reason to try the old one"
    assert scene.students.heard[2:] == [use(2)]


async def test_an_engine_that_has_what_it_lacked_is_used_again(scene: Scene) -> None:
    scene.engines[1].refusals = 2
    await scene.publisher.publish(version(1))
    await scene.publisher.reload()
    assert scene.students.heard == [use(1, "engine-1"), use(1)]
    assert scene.teacher.heard == [use(0, policy="teacher")]
    await scene.publisher.reload()
    assert len(scene.students.heard) == 2, "nothing has changed"


async def test_an_engine_that_was_restarted_gets_every_version_in_use_again(scene: Scene) -> None:
    for message in (version(1), version(2), version(3, "teacher")):
        await scene.publisher.publish(message)
    scene.engines[0].names.clear()
    await scene.publisher.reload()
    assert scene.names == [["student-v1", "student-v2", "teacher-v3"]] * 2
    scene.engines[0].names.clear()
    await scene.publisher.reload()
    assert scene.names == [["student-v1", "student-v2", "teacher-v3"]] * 2


async def test_those_who_ask_for_a_reload_during_another_share_the_next_one(scene: Scene) -> None:
    await scene.publisher.publish(version(1))
    began, go_on = anyio.Event(), anyio.Event()

    async def opened() -> None:
        began.set()
        await go_on.wait()

    scene.engines[0].opened = opened
    scene.engines[0].heard.clear()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(scene.publisher.reload)
            await began.wait()
            for _ in range(5):
                group.start_soon(scene.publisher.reload)
            await anyio.wait_all_tasks_blocked()
            go_on.set()
    assert len(scene.engines[0].heard) == 2


async def test_a_version_that_is_retired_during_a_reload_is_not_loaded_again(scene: Scene) -> None:
    for number in (1, 2):
        await scene.publisher.publish(version(number))
    began, go_on = anyio.Event(), anyio.Event()

    async def opened() -> None:
        began.set()
        await go_on.wait()

    scene.engines[0].opened = opened
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(scene.publisher.reload)
            await began.wait()
            await scene.publisher.retire("student", (1,))
            go_on.set()
    assert scene.names == [["student-v1"]] * 2


async def test_other_versions_of_a_policy_are_retired_and_those_of_the_other_one_stay(scene: Scene) -> None:
    for message in (version(1), version(2), version(3), version(1, "teacher")):
        await scene.publisher.publish(message)
    scene.engines[0].names.remove("student-v1")  # it was restarted meanwhile
    await scene.publisher.retire("student", (2, 3))
    assert scene.names == [["student-v2", "student-v3", "teacher-v1"]] * 2
    await scene.publisher.reload()
    assert scene.names == [["student-v2", "student-v3", "teacher-v1"]] * 2


async def test_versions_lie_on_the_shelf_until_they_are_retired_or_the_run_ends(
    scene: Scene, tiers: TieredStore
) -> None:
    scene.publisher.use_adapter_store(StoredAdapters(tiers, 0.0), TAG)
    for number in (1, 2):
        await scene.publisher.restore(version(number))
    asked = [message for message in scene.engines[0].heard if isinstance(message, FetchAdapter)]
    assert [(each.adapter.name, each.adapter.tag) for each in asked] == [
        ("student-v1", TAG), ("student-v2", TAG),
    ]  # fmt: skip
    assert asked[0].adapter.sha256
    await scene.publisher.retire("student", (2,))
    left = (await tiers.store.list(TAG)).blobs
    assert {blob.name.split("/")[1] for blob in left} == {"v0002"}
    await tiers.store.put("another", "n", b"1")
    await scene.publisher.clear_adapter_store()
    assert [blob.tag for blob in (await tiers.store.list("*")).blobs] == ["another"]


async def test_what_came_with_its_message_is_not_looked_for_on_the_shelf(scene: Scene) -> None:
    await scene.publisher.restore(version(1))
    assert [type(message) for message in scene.engines[0].heard] == [LoadAdapter], "there is no shelf yet"
    assert scene.publisher.tag == ""
    scene.publisher.use_adapter_store(Unwilling(), TAG)
    assert scene.publisher.tag == TAG
    await scene.publisher.retire("student", ())
    assert scene.names == [[], []]


class Unwilling:
    """A shelf that can remove nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def put(self, adapter: LoadAdapter) -> None: ...

    async def fetch(self, adapter: AdapterRef) -> LoadAdapter:
        raise AssertionError("the engines fetch")

    async def remove(self, adapter: AdapterRef) -> None:
        self.asked.append(adapter.name or "")
        raise StoreError("the disk is gone")

    async def clear(self, tag: str) -> None:
        self.asked.append(tag)
        raise StoreError("the disk is gone")


async def test_a_shelf_that_cannot_remove_does_not_end_the_run(scene: Scene) -> None:
    shelf = Unwilling()
    scene.publisher.use_adapter_store(shelf, TAG)
    for number in (1, 2):
        await scene.publisher.restore(version(number))
    await scene.publisher.retire("student", (2,))
    await scene.publisher.clear_adapter_store()
    assert shelf.asked == ["student-v1", TAG]


async def test_nothing_is_taken_off_the_shelf_while_a_reload_may_be_fetching_it(scene: Scene) -> None:
    shelf = Unwilling()
    scene.publisher.use_adapter_store(shelf, TAG)
    for number in (1, 2):
        await scene.publisher.restore(version(number))
    began, go_on = anyio.Event(), anyio.Event()

    async def opened() -> None:
        began.set()
        await go_on.wait()

    scene.engines[0].opened = opened
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(scene.publisher.reload)
            await began.wait()
            group.start_soon(scene.publisher.retire, "student", (2,))
            await anyio.wait_all_tasks_blocked()
            assert shelf.asked == []
            go_on.set()
    assert shelf.asked == ["student-v1"]


@pytest.mark.parametrize("fails", [False, True])
async def test_engines_sleep_inside_the_block_and_are_woken_however_it_ends(
    scene: Scene, fails: bool
) -> None:
    seen: list[list[type[Message]]] = []
    try:
        async with engines_asleep(scene.pool):
            seen = [[type(message) for message in engine.heard] for engine in scene.engines]
            if fails:
                raise ValueError("the step failed")
    except ValueError:
        assert fails
    assert seen == [[SleepEngine]] * 2
    assert [[type(message) for message in engine.heard] for engine in scene.engines] == [
        [SleepEngine, WakeEngine]
    ] * 2
