"""Agents: by rules, by models that speak over real wires, and specialists round them."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agentfactory.actors.agents.action_format import SHAPES, JsonActionFormat, ReActFormat, UnreadableReply
from agentfactory.actors.agents.base import ANSWER, Agent, NotPermitted, NotUnderstood, StatefulAgent
from agentfactory.actors.environment import ACTIONS
from agentfactory.actors.student.tools import action_of
from agentfactory.cluster.agents.loader import open_agent
from agentfactory.configs.agents.blueprints import Blueprint
from agentfactory.configs.errors import SettingsError
from agentfactory.messages.data import Action, Observation
from agentfactory.runtime.llm.errors import ModelError, ModelTimeout
from tests.runtime.llm.model_server import (
    KEY,
    KEY_ENV,
    Act,
    ModelServer,
    OllamaWire,
    OpenAIWire,
    Wire,
    serving,
)

GET = Observation(text="get a.md from docs")
GOT = Action.of("retrieve", tag="docs", blob_name="a.md")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)


def blueprint(**agent: object) -> Blueprint:
    return Blueprint.model_validate({"blueprint": {"name": "tester"}, "agent": agent})


def said(action: str, thought: str = "because", **params: object) -> Act:
    return Act(pieces=(json.dumps({"thought": thought, "action": action, "params": params}),))


@asynccontextmanager
async def asking(wire: Wire, *acts: Act, **agent: object) -> AsyncIterator[tuple[Agent, ModelServer]]:
    """An agent whose model is on a server that plays these acts."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(wire))
        server.script = list(acts)
        model = wire.settings(server.url, timeout_s=5.0, silence_s=1.0, retry={"attempts": 1})
        words = {"type": "llm", "model": model, **agent}
        yield await stack.enter_async_context(open_agent(blueprint(**words))), server


async def test_an_agent_by_rules_says_why_and_acts() -> None:
    async with open_agent(blueprint(type="rule_based", default_tag="mine")) as agent:
        assert await agent.think(GET) == "'get' means retrieve"
        assert await agent.act(GET) == GOT
        assert await agent.act(Observation(text="get a.md")) == Action.of(
            "retrieve", tag="mine", blob_name="a.md"
        )
        with pytest.raises(NotUnderstood):
            await agent.think(Observation(text="destroy"))


@pytest.mark.parametrize("wire", [OpenAIWire(), OllamaWire()], ids=lambda wire: wire.name)
async def test_to_think_and_then_to_act_is_one_call_of_the_model(wire: Wire) -> None:
    acts = said("retrieve", tag="docs", blob_name="a.md"), said("query", tag_pattern="*")
    async with asking(wire, *acts) as (agent, server):
        assert await agent.think(GET) == "because"
        assert await agent.act(GET) == GOT
        assert len(server.seen) == 1
        assert await agent.act(GET) == Action.of("query", tag_pattern="*")  # decided anew
        assert len(server.seen) == 2


async def test_the_model_is_told_the_command_as_it_is_and_held_to_a_schema() -> None:
    async with asking(OpenAIWire(), said("query", tag_pattern="docs")) as (agent, server):
        await agent.act(GET)
        messages = server.seen[0].at("messages")
        assert isinstance(messages, list)
        assert [m["role"] for m in messages] == ["system", "user"]
        assert messages[1]["content"] == GET.text
        schema = server.seen[0].at("response_format", "json_schema", "schema")
        assert isinstance(schema, dict)
        assert schema["properties"]["action"]["enum"] == [*ACTIONS, ANSWER]


async def test_a_prompt_agent_shows_its_examples_first() -> None:
    examples = [{"command": "hol a.md", "action": "retrieve", "params": {"tag": "docs", "blob_name": "a.md"}}]
    words = {"type": "prompt", "examples": examples, "system": "Befolge die Beispiele."}
    async with asking(OpenAIWire(), said("retrieve", tag="docs", blob_name="a.md"), **words) as (
        agent,
        server,
    ):
        assert await agent.act(Observation(text="hol mir a.md")) == GOT
        system, command, reply, question = server.seen[0].at("messages")  # type: ignore[misc]
        assert system["content"] == "Befolge die Beispiele."
        assert command == {"role": "user", "content": "hol a.md"}
        assert json.loads(reply["content"])["params"] == examples[0]["params"]
        assert question["content"] == "hol mir a.md"


RUBBISH = [
    "I would get the file.",
    '{"thought": "x", "action": "format_disk", "params": {}}',
    '{"thought": "x", "action": "retrieve", "params": {"tag": "docs"}}',
    '{"thought": "x", "action": "retrieve", "params": {"tag": {"a": 1}, "blob_name": "a.md"}}',
    '{"action": "retrieve", "params": ',
    "",
]


@pytest.mark.parametrize("reply", RUBBISH)
@pytest.mark.parametrize("server", ["vllm", "other"])
async def test_rubbish_falls_back_to_the_rules_and_is_logged(reply: str, server: str) -> None:
    wire = OpenAIWire()
    async with serving(wire) as there:
        there.script = [Act(pieces=(reply,))]
        model = wire.settings(there.url, server=server, retry={"attempts": 1})
        async with open_agent(blueprint(type="llm", model=model)) as agent:
            with capture_logs() as lines:
                thought = await agent.think(GET)
            assert await agent.act(GET) == GOT
    assert "no action" in thought
    assert "'get' means retrieve" in thought
    line = next(line for line in lines if line["event"] == "reply is no action")
    assert line["log_level"] == "warning"
    assert line["fallback"] == "rules"


async def test_rubbish_becomes_what_the_blueprint_says() -> None:
    rubbish = Act(pieces=("no idea",))
    async with asking(OllamaWire(), rubbish, fallback="query", default_tag_pattern="w*") as (agent, _):
        assert await agent.act(GET) == Action.of("query", tag_pattern="w*")
    async with asking(OllamaWire(), rubbish, fallback="refuse") as (agent, _):
        with pytest.raises(NotUnderstood, match="nothing was done"):
            await agent.act(GET)


async def test_a_server_that_hangs_or_breaks_is_an_error_and_no_guess() -> None:
    async with asking(OpenAIWire(), Act(then="stall", at_once=True)) as (agent, _):
        with pytest.raises(ModelTimeout):
            await agent.think(GET)
    async with asking(OpenAIWire(), Act(status=404, error="no such model")) as (agent, _):
        with pytest.raises(ModelError, match="no such model"):
            await agent.think(GET)


async def test_an_agent_remembers_the_steps_of_a_task_and_nothing_after_it() -> None:
    acts = said("query", tag_pattern="*"), said(ANSWER, text="two")
    async with asking(OllamaWire(), *acts) as (agent, server):
        assert isinstance(agent, StatefulAgent)
        agent.begin()
        await agent.act(Observation(text="how many blobs are there?"))
        assert await agent.act(Observation(text="the cache holds 2")) == Action.of(ANSWER, text="two")
        told = server.seen[1].at("messages")
        assert isinstance(told, list)
        assert [m["content"] for m in told[1::2]] == [
            "how many blobs are there?",
            "Observation: the cache holds 2",
        ]
        agent.forget()
        await agent.act(GET)
        assert len(server.seen[2].at("messages")) == 2  # type: ignore[arg-type]


def test_every_action_is_told_of_with_parameters_that_fit() -> None:
    values = {"array": ["a"], "boolean": True}
    for name, shape in SHAPES.items():
        params = {
            key: "arrow" if "enum" in schema else values.get(str(schema["type"]), "a")
            for key, schema in shape.params.items()
        }
        found = JsonActionFormat().read(json.dumps({"thought": "", "action": name, "params": params}))
        assert found.action.name == name
    assert SHAPES.keys() == {*ACTIONS, ANSWER}


def test_a_reply_is_found_among_prose_and_fences() -> None:
    text = 'Sure {as asked}:\n```json\n{"action": "destroy", "params": {"tags": ["a", "b"]}}\n```\nDone.'
    assert JsonActionFormat().read(text).action == Action.of("destroy", tags=("a", "b"))
    with pytest.raises(UnreadableReply, match="is none of assimilate, answer"):
        JsonActionFormat(("assimilate",)).read(text)
    with pytest.raises(UnreadableReply):
        JsonActionFormat().read("{" * 10_000)


def test_a_reply_in_the_students_way_is_read() -> None:
    dialect = ReActFormat("", action_of)
    read = dialect.read("Thought: I need it.\nAction: retrieve\nInput: docs/a.md")
    assert read == ("I need it.", GOT)
    assert dialect.read("Thought: ok\nAnswer: hello").action == Action.of(ANSWER, text="hello")
    for rubbish in ("Action: fly\nInput: x", 'Action: query\nInput: {"size": 1}', "hm"):
        with pytest.raises(UnreadableReply):
            dialect.read(rubbish)


async def test_a_specialist_does_what_it_may_whatever_its_model_says() -> None:
    acts = said("assimilate", src=["file::a.md"], dst="docs"), said("destroy", tags=["docs"])
    async with asking(OpenAIWire(), *acts, type="ingestor") as (agent, server):
        command = Observation(text="load file::a.md as docs")
        load = Action.of("assimilate", src=("file::a.md",), dst="docs")
        assert await agent.think(command) == "because"
        assert await agent.act(command) == load
        assert len(server.seen) == 1
        told = server.seen[0].at("messages", 0, "content")
        assert isinstance(told, str)
        assert "- destroy" not in told
        with capture_logs() as lines:
            by_rules = await agent.act(command)
        assert by_rules == Action.of("assimilate", src="file::a.md", dst="docs", format="arrow")
        assert lines
        with pytest.raises(NotPermitted, match="may only assimilate, and not destroy"):
            await agent.act(Observation(text="destroy docs"))


@pytest.mark.parametrize("role", ["ingestor", "retriever"])
@pytest.mark.parametrize("wanted", [*ACTIONS])
async def test_no_forbidden_action_leaves_a_specialist(role: str, wanted: str) -> None:
    may = {"ingestor": {"assimilate"}, "retriever": {"query", "retrieve", "prune"}}[role]
    commands = [
        "load file::a as b",
        "find a",
        "list",
        "get a from b",
        "prune a from b",
        "destroy a",
        "hello",
        "",
    ]
    params = {
        "assimilate": {"src": ["file::x"]},
        "query": {"tag_pattern": "*"},
        "retrieve": {"tag": "a", "blob_name": "b"},
        "prune": {"tag": "a", "blob_names": ["b"]},
        "destroy": {"tags": ["a"]},
        "list_blobs": {},
    }[wanted]
    async with asking(OllamaWire(), said(wanted, **params), type=role) as (agent, _):
        for command in commands:
            assert (await name_of(agent, command)) in {*may, None}


async def name_of(agent: Agent, command: str) -> str | None:
    """The action's name; None where it is not permitted."""
    try:
        return (await agent.act(Observation(text=command))).name
    except NotPermitted:
        return None


FAKE = """#!/bin/sh
[ "$1" = "-p" ] && [ "$3" = "opus" ] || { echo "bad arguments: $*" >&2; exit 2; }
command=$(cat)
[ "$command" = "get a.md from docs" ] || { echo "bad command: $command" >&2; exit 3; }
echo run >> "$0.runs"
printf '%s' '{"type":"result","is_error":false,"result":"{\\"thought\\":\\"t\\",\\"action\\":\\"retrieve\\",'
printf '%s' '\\"params\\":{\\"tag\\":\\"docs\\",\\"blob_name\\":\\"a.md\\"}}"}'
"""


async def test_claude_is_asked_through_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "claude"
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    async with open_agent(blueprint(type="claude", model="opus")) as agent:
        assert await agent.think(GET) == "t"
        assert await agent.act(GET) == GOT
    assert (tmp_path / "claude.runs").read_text().splitlines() == ["run"]


async def test_without_claude_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SettingsError, match=r"no program 'claude' on the PATH; install .*, or choose another"
    ):
        async with open_agent(blueprint(type="claude")):
            pass
