"""Environments in this process and over HTTP: the same tests for both, then sessions and the door."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from agentfactory.actors.environment import EnvironmentOver
from agentfactory.actors.namespaces import DataAccess
from agentfactory.bridge.errors import BlobDamaged
from agentfactory.cluster.environment.base import Environments
from agentfactory.cluster.environment.client import HttpEnvironments
from agentfactory.cluster.environment.errors import (
    NoSuchSession,
    ServerFailed,
    ServerUnreachable,
    SessionBusy,
    TooManySessions,
)
from agentfactory.cluster.environment.local import LocalEnvironments
from agentfactory.cluster.environment.recorded import RecordedEpisode, recorded_episodes
from agentfactory.cluster.environment.server import build, opened
from agentfactory.cluster.environment.sessions import Sessions
from agentfactory.cluster.serving.http_server import bind, running, url_of
from agentfactory.configs.data import LIBRARY, DataSettings
from agentfactory.configs.errors import AgentFactoryError, BadInput
from agentfactory.configs.http_servers import EnvironmentServerSettings
from agentfactory.messages.data import Action, TaskSpec
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.tasks import Task
from agentfactory.messages.trajectories import Trajectory
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks import data_tasks
from agentfactory.training.tasks.documents import read_library
from tests.actors.data_plane import Plane, access

DATA = DataSettings(library=str(LIBRARY))
ANSWER = "answer"


def trajectory(instruction: str, *calls: tuple[str, str, float], total: float = 0.4) -> Trajectory:
    """An episode as a session records it."""
    return Trajectory(
        episode_id=instruction,
        group_id="g",
        task=Task(id="t", domain="data", description=instruction, difficulty=0.0),
        turns=tuple(
            Turn(
                prompt_ids=(),
                completion_ids=(),
                logprobs=(),
                loss_mask=(),
                policy_version=0,
                calls=(ToolCall(tool=tool, input=params),),
                results=(ToolResult(output=f"seen {tool}", ok=True, reward=reward),),
            )
            for tool, params, reward in calls
        ),
        answer="# a" if total > 0.3 else None,
        rewards=Rewards(total=total),
    )


RECORDS = recorded_episodes(
    [
        trajectory("Fetch a.md.", ("retrieve", '{"tag": "docs", "blob_name": "a.md"}', 0.3)),
        trajectory("It failed.", ("query", '{"tag_pattern": "*"}', -0.5), total=-0.5),
        trajectory("Look.", ("query", '{"tag_pattern": "*"}', 0.1), total=0.1),
    ]
)


class Made(NamedTuple):
    """What the tests act in, and what lies behind it."""

    environments: Environments
    plane: Plane
    access: DataAccess


def settings(**values: object) -> EnvironmentServerSettings:
    return EnvironmentServerSettings.model_validate(
        {"port": 0, "evaluation_tasks": 3, "drain_s": 5, "timeout_s": 30, **values}
    )


@asynccontextmanager
async def served(
    sessions: Sessions, chosen: EnvironmentServerSettings, keys: tuple[str, ...] = ()
) -> AsyncIterator[str]:
    with bind(chosen) as listening:
        async with running(build(sessions, chosen, keys), chosen.drain_s, listening):
            yield url_of(listening)


@asynccontextmanager
async def made(way: str, episodes: tuple[RecordedEpisode, ...] = RECORDS) -> AsyncIterator[Made]:
    plane = Plane()
    async with ActorSystem.open("local") as system:
        data = await access(system, plane)
        if way == "local":
            yield Made(LocalEnvironments(data, DATA, settings(), episodes), plane, data)
            return
        async with (
            opened(data, DATA, settings(), episodes) as sessions,
            served(sessions, settings()) as url,
            HttpEnvironments.connect(url, timeout_s=30) as environments,
        ):
            yield Made(environments, plane, data)


@pytest.fixture(params=["local", "http"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def solution(instruction: str) -> list[Action]:
    """What a perfect agent does."""
    library = read_library(Path(LIBRARY))
    errand = data_tasks.parse_data_task(instruction, library)
    assert errand is not None
    loads = [
        Action.of(
            "assimilate",
            src=f"{'file' if load.file else 'folder'}::{load.folder}{f'/{load.file}' if load.file else ''}",
            dst=load.tag,
            format="binary",
        )
        for load in errand.loads
    ]
    return [*loads, Action.of(ANSWER, text=data_tasks.answer_of(errand, library))]


async def test_a_drawn_errand_that_is_done_and_answered_earns_the_verdict(way: str) -> None:
    async with made(way) as (environments, plane, _):
        environment = await environments.open("training")
        seen = await environment.reset()
        assert environment.observe() == seen
        *loads, answer = solution(seen.text)
        for load in loads:
            assert (await environment.step(load)).reward == 0.10
        assert plane.store.blobs
        last = await environment.step(answer)
        assert (last.reward, last.done, last.observation.text) == (1.0, True, "right")
        assert environment.observe() == last.observation
        assert [step.action for step in environment.trajectory.steps] == [*loads, answer]
        assert environment.trajectory.total_reward == pytest.approx(1.0 + 0.1 * len(loads))
        with pytest.raises(EnvironmentOver):
            await environment.step(answer)
        await environment.close()
        assert not plane.store.blobs


async def test_a_wrong_answer_earns_nothing_and_training_says_why(way: str) -> None:
    async with made(way) as (environments, _, _):
        environment = await environments.open("training")
        await environment.reset()
        last = await environment.step(Action.of(ANSWER, text="no idea"))
        assert (last.reward, last.done) == (0.0, True)
        assert last.observation.text.startswith("not right: expected ")


async def test_a_task_of_ones_own_ends_with_its_steps(way: str) -> None:
    async with made(way) as (environments, _, _):
        environment = await environments.open("training")
        seen = await environment.reset(TaskSpec(instruction="Look around.", max_steps=2))
        assert seen.text == "Look around."
        look = Action.of("list_blobs", tag_pattern="*")
        assert [(await environment.step(look)).done for _ in range(2)] == [False, True]
        with pytest.raises(EnvironmentOver, match="reset"):
            await environment.step(look)


async def test_evaluation_sets_every_session_the_same_tasks_and_keeps_the_answers_to_itself(way: str) -> None:
    async with made(way) as (environments, _, _):
        one, other = await environments.open("evaluation"), await environments.open("evaluation")
        tasks = [(await one.reset()).text for _ in range(3)]
        assert [(await other.reset()).text for _ in range(3)] == tasks
        assert len(set(tasks)) == 3
        last = await one.step(Action.of(ANSWER, text="no idea"))
        assert (last.observation.text, last.reward) == ("not right", 0.0)
        with pytest.raises(EnvironmentOver, match="all 3 tasks"):
            await one.reset()
        with pytest.raises(BadInput, match="its own tasks"):
            await other.reset(TaskSpec(instruction="An easier one."))


async def test_two_episodes_never_see_what_the_other_stored(way: str) -> None:
    async with made(way) as (environments, _, _):
        one, other = await environments.open(), await environments.open()
        await one.reset(TaskSpec(instruction=""))
        await other.reset(TaskSpec(instruction=""))
        await one.step(Action.of("assimilate", src="string:a.md::# a", dst="docs"))
        found = (await other.step(Action.of("list_blobs", tag_pattern="*"))).observation
        assert found.text == "the store holds 0 that match"


async def test_a_record_is_walked_through_by_doing_what_it_has(way: str) -> None:
    async with made(way) as (environments, plane, _):
        environment = await environments.open("fine_tuning")
        assert (await environment.reset()).text == "Fetch a.md."
        off = await environment.step(Action.of("query", tag_pattern="*"))
        assert off.reward == -0.5
        assert '"retrieve"' in off.observation.text
        first = await environment.step(Action.of("retrieve", blob_name="a.md", tag="docs"))
        assert (first.observation.text, first.reward, first.done) == ("seen retrieve", 0.3, False)
        assert (await environment.step(Action.of(ANSWER, text="# a"))).done
        with pytest.raises(EnvironmentOver):
            await environment.step(Action.of(ANSWER, text="# a"))
        assert [(await environment.reset()).text for _ in range(2)] == ["Look.", "Fetch a.md."]
        assert (await environment.reset(TaskSpec(instruction="Look."))).text == "Look."
        with pytest.raises(BadInput, match="no recorded episode"):
            await environment.reset(TaskSpec(instruction="Dance."))
        assert not plane.store.blobs


async def test_without_records_there_is_no_fine_tuning(way: str) -> None:
    async with made(way, episodes=()) as (environments, _, _):
        with pytest.raises(BadInput, match="--episodes"):
            await environments.open("fine_tuning")


async def test_what_the_data_plane_fails_with_is_no_step(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def damaged(*_: object) -> None:
        raise BlobDamaged("it does not add up")

    async with made(way) as (environments, plane, _):
        environment = await environments.open()
        await environment.reset()
        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "list", damaged)
            with pytest.raises(BlobDamaged if way == "local" else ServerFailed, match="it does not add up"):
                await environment.step(Action.of("list_blobs"))
        assert environment.trajectory.steps == ()
        await environment.close()


async def test_a_closed_environment_begins_nothing(way: str) -> None:
    async with made(way) as (environments, _, _):
        environment = await environments.open()
        await environment.reset()
        await environment.close()
        await environment.close()
        with pytest.raises(EnvironmentOver if way == "local" else NoSuchSession):
            await environment.reset()


async def test_the_same_seed_draws_the_same_errands() -> None:
    async with made("local") as (_, _, data):
        sources = [LocalEnvironments(data, DATA, settings(), rng=random.Random(7)) for _ in range(2)]
        first, second = [await source.open() for source in sources]
        assert [(await first.reset()).text for _ in range(4)] == [
            (await second.reset()).text for _ in range(4)
        ]


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_no_more_sessions_are_open_than_the_settings_allow() -> None:
    async with made("local") as (environments, _, _):
        assert isinstance(environments, LocalEnvironments)
        sessions = Sessions(environments, settings(max_sessions=1))
        first = await sessions.open("training")
        assert repr(sessions) == "<Sessions: 1 open, 0 busy>"
        with pytest.raises(TooManySessions, match="1 sessions are open"):
            await sessions.open("training")
        await sessions.close(first.id)
        await sessions.open("evaluation")
        await sessions.aclose()
        assert sessions.listed == ()


async def test_a_session_that_nobody_uses_is_closed_and_one_at_work_is_not() -> None:
    async with made("local") as (environments, plane, _):
        assert isinstance(environments, LocalEnvironments)
        clock = Clock()
        sessions = Sessions(environments, settings(idle_s=10.0), clock)
        left, kept = await sessions.open("training"), await sessions.open("training")
        async with sessions.using(left.id) as environment:
            await environment.reset()
            await environment.step(Action.of("assimilate", src="string:a.md::# a", dst="docs"))
        assert plane.store.blobs
        async with sessions.using(kept.id):
            clock.now += 10.0
            assert await sessions.close_idle() == 1
        assert not plane.store.blobs
        with pytest.raises(NoSuchSession, match="unused for 10 s"):
            async with sessions.using(left.id):
                pass
        clock.now += 9.9
        assert await sessions.close_idle() == 0
        clock.now += 0.1
        assert await sessions.close_idle() == 1


async def test_a_session_works_on_one_request_at_a_time() -> None:
    async with made("local") as (environments, _, _):
        assert isinstance(environments, LocalEnvironments)
        sessions = Sessions(environments, settings())
        info = await sessions.open("training")
        async with sessions.using(info.id):
            with pytest.raises(SessionBusy):
                async with sessions.using(info.id):
                    pass
            with pytest.raises(SessionBusy):
                await sessions.close(info.id)
        await sessions.close(info.id)


async def ask(url: str, method: str, path: str, **options: object) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as http, http.request(method, url + path, **options) as response:  # type: ignore[arg-type]
        return response.status, json.loads(await response.text())


async def test_the_door_asks_for_a_key_and_says_what_is_wrong_in_one_form() -> None:
    async with made("local") as (environments, _, _):
        assert isinstance(environments, LocalEnvironments)
        sessions = Sessions(environments, settings(max_sessions=1))
        async with served(sessions, settings(), keys=("secret",)) as url:
            known = {"headers": {"Authorization": "Bearer secret"}}
            base = url.removesuffix("/v1")
            assert (await ask(base, "GET", "/health"))[0] == 200
            assert (await ask(url, "POST", "/sessions", json={}))[0] == 401
            status, info = await ask(url, "POST", "/sessions", json={}, **known)
            assert (status, info["kind"], info["explore"], info["episodes"]) == (201, "training", True, None)
            path = f"/sessions/{info['id']}"

            async def said(method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
                return await ask(url, method, path, json=body, **known)

            wrong = [
                (await said("POST", "/sessions", {}), 429, "too_many_sessions"),
                (await said("POST", "/sessions", {"kind": "fun"}), 400, None),
                (await said("POST", "/sessions/x/reset", {}), 404, "no_such_session"),
                (await said("POST", f"{path}/step", {"name": "query"}), 409, "environment_over"),
                (await said("POST", f"{path}/step", {"name": "q", "parms": {}}), 400, "unknown_parameter"),
                (await said("GET", "/elsewhere"), 404, None),
            ]
            for (status, body), expected, code in wrong:
                error = body["error"]
                assert isinstance(error, dict)
                assert (status, error["code"] if code else None) == (expected, code), body
            assert (await ask(url, "POST", f"{path}/reset", json={}, **known))[0] == 200
            status, result = await ask(url, "POST", f"{path}/step", json={"name": "fly"}, **known)
            assert (status, result["reward"]) == (200, -0.5)
            status, taken = await ask(url, "GET", f"{path}/trajectory", **known)
            assert [step["action"] for step in taken["steps"]] == [{"name": "fly", "params": {}}]  # type: ignore[attr-defined]
            status, seen = await ask(url, "GET", f"{path}/observe", **known)
            assert seen == result["observation"]
            _, listed = await ask(url, "GET", "/sessions", **known)
            assert listed == {"sessions": [info]}
            assert (await ask(url, "DELETE", path, **known))[0] == 200
        await sessions.aclose()


async def test_openapi_describes_actions_as_they_are_written() -> None:
    async with made("local") as (environments, _, _):
        assert isinstance(environments, LocalEnvironments)
        sessions = Sessions(environments, settings())
        async with served(sessions, settings()) as url:
            _, described = await ask(url.removesuffix("/v1"), "GET", "/openapi.json")
    paths, parts = described["paths"], described["components"]
    assert isinstance(paths, dict)
    assert isinstance(parts, dict)
    one = "/v1/sessions/{session_id}"
    assert {"/v1/sessions", one, f"{one}/reset", f"{one}/step", f"{one}/observe"} <= paths.keys()
    assert parts["schemas"]["Action-Input"]["properties"]["params"]["type"] == "object"
    assert parts["schemas"]["Action-Output"]["properties"]["params"]["type"] == "object"


async def test_a_server_that_is_none_is_one_clear_error() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpEnvironments.connect(f"http://127.0.0.1:{port}/v1", timeout_s=10) as other:
        with pytest.raises(ServerUnreachable, match="no environment server"):
            await other.open()
    async with HttpEnvironments.connect(f"http://127.0.0.1:{port}/v1", timeout_s=10) as nobody:
        with pytest.raises(ServerUnreachable, match="does not answer") as caught:
            await nobody.open()
    assert isinstance(caught.value, AgentFactoryError)
