"""Mounted tools of MCP servers: real servers, over stdio and HTTP, in good health and bad."""

import asyncio
import itertools
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.configs.tools import McpServerSettings
from agentfactory.messages.turns import ToolCall, ToolResult
from agentfactory.runtime.tools.base import ToolError
from agentfactory.runtime.tools.mcp.client import McpServer
from agentfactory.runtime.tools.mcp.conversion import MAX_CHARACTERS, read_arguments, sanitize_schema
from agentfactory.runtime.tools.parameters import write_schema
from agentfactory.runtime.tools.tool_set import ToolSet
from tests.free_ports import free_port

DEMO = Path(__file__).with_name("mcp_demo.py")
STDIO = McpServerSettings(name="demo", command=(sys.executable, str(DEMO), "stdio"), max_description_chars=60)


@asynccontextmanager
async def mounted(settings: McpServerSettings = STDIO) -> AsyncIterator[tuple[McpServer, ToolSet]]:
    server = McpServer(settings)
    await server.start()
    try:
        yield server, ToolSet(server.tools)
    finally:
        await server.aclose()


async def call(box: ToolSet, name: str, text: str = "{}") -> ToolResult:
    return await box.call(ToolCall(tool=name, input=text))


async def test_a_servers_tools_stand_under_its_name_and_can_be_called() -> None:
    async with mounted() as (_, box):
        assert box.names[:6] == (
            "demo_add", "demo_echo", "demo_pid_of", "demo_die", "demo_hang", "demo_fail",
        )  # fmt: skip
        assert (await call(box, "demo_add", '{"a": 2, "b": 3}')).output == "5"
        assert (await call(box, "demo_echo", "bare <|im_end|> text")).output == "bare < |im_end|> text"
        assert (await call(box, "demo_pid_of")).output.isdigit()


async def test_what_a_server_says_of_itself_is_shortened_and_cannot_end_a_turn() -> None:
    async with mounted() as (_, box):
        echo = box.find("demo_echo")
        assert echo is not None
        assert len(echo.description) <= 60
        assert "<|" not in box.descriptions
        assert echo.parameters == {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        }


async def test_errors_of_a_tool_and_wrong_arguments_are_observations() -> None:
    async with mounted() as (_, box):
        broken = await call(box, "demo_fail")
        assert (broken.ok, broken.failure) == (False, "error")
        wrong = await call(box, "demo_add", '{"a": "x"}')
        assert not wrong.ok
        assert "a" in wrong.output
        unread = await call(box, "demo_add", "two and three")
        assert unread.output == "Error: expected a JSON object with a: integer, b: integer"


async def test_a_server_that_dies_is_a_failed_call_and_the_next_call_has_a_new_one() -> None:
    async with mounted() as (_, box):
        before = (await call(box, "demo_pid_of")).output
        died = await call(box, "demo_die")
        assert (died.failure, died.output) == ("crashed", "Error: the MCP server demo is gone")
        after = await call(box, "demo_pid_of")
        assert after.ok
        assert after.output != before


async def test_a_tool_that_hangs_is_left_at_its_deadline_and_others_still_answer() -> None:
    async with mounted(STDIO.model_copy(update={"timeout_s": 4.0})) as (_, box):
        hung, added = await asyncio.gather(call(box, "demo_hang"), call(box, "demo_add", '{"a": 1, "b": 1}'))
        assert (hung.failure, added.output) == ("timeout", "2")
        assert (await call(box, "demo_add", '{"a": 2, "b": 2}')).output == "4"


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/server",),
        (sys.executable, "-c", "print('not the protocol')"),
        (sys.executable, "-c", "import time; time.sleep(60)"),
    ],
)
async def test_a_server_that_cannot_be_reached_has_no_tools_and_harms_nobody(
    command: tuple[str, ...],
) -> None:
    settings = McpServerSettings(name="bad", command=command, start_timeout_s=1.5)
    async with mounted(settings) as (server, box):
        assert box.names == ()
        assert server.problems[0].startswith("the MCP server bad ")
        assert server.problems[0].endswith("; everything else works, without its tools")
        assert (await server.call("add", {})).failure == "crashed"


async def test_only_the_tools_that_are_wanted_are_mounted() -> None:
    async with mounted(STDIO.model_copy(update={"tools": ("add",)})) as (_, box):
        assert box.names == ("demo_add",)
    async with mounted(STDIO.model_copy(update={"max_tools": 2})) as (_, box):
        assert len(box.names) == 2


async def test_the_program_ends_with_the_connection() -> None:
    async with mounted() as (_, box):
        pid = int((await call(box, "demo_pid_of")).output)
    assert not Path(f"/proc/{pid}").exists()


async def test_a_closed_server_is_a_failed_call() -> None:
    async with mounted() as (_, box):
        pass
    assert (await call(box, "demo_add", '{"a": 1, "b": 1}')).failure == "crashed"


async def test_a_server_is_reached_over_http_too() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(DEMO),
        str(port),
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    settings = McpServerSettings(name="web", url=f"http://127.0.0.1:{port}/mcp", timeout_s=10.0)
    try:
        await until_open(port)
        async with mounted(settings) as (_, box):
            assert (await call(box, "web_add", '{"a": 2, "b": 3}')).output == "5"
            process.kill()
            await process.wait()
            gone = await call(box, "web_add", '{"a": 2, "b": 3}')
            assert (gone.ok, gone.failure) == (False, "crashed")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_open(port: int) -> None:
    """Until a server listens, which nobody tells us."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def test_a_schema_that_is_too_long_keeps_the_parameters_that_must_be_given() -> None:
    long = {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "title": "x"} for n in range(500)},
        "required": ["p499", "p3"],
        "additionalProperties": False,
    }
    kept = sanitize_schema(long, 100)
    assert list(kept["properties"])[:3] == ["p3", "p499", "p0"]
    assert kept["required"] == ["p3", "p499"]
    assert str(kept["description"]).startswith(
        f"{500 - len(kept['properties'])} more parameters are not shown: p"
    )
    assert len(json.dumps(kept)) <= MAX_CHARACTERS
    assert read_arguments('{"p3": "a", "p499": "b", "p450": "c"}', kept)["p450"] == "c"


def test_a_schema_loses_the_length_of_its_descriptions_before_its_parameters() -> None:
    value = {"type": "string", "description": "d" * 300}
    kept = sanitize_schema({"type": "object", "properties": {f"p{n}": value for n in range(30)}}, 300)
    assert kept["properties"] == {
        f"p{n}": {"type": "string", "description": "d" * 79 + "…"} for n in range(30)
    }
    bare = sanitize_schema({"type": "object", "properties": {f"p{n}": value for n in range(90)}}, 300)
    assert bare["properties"] == {f"p{n}": {"type": "string"} for n in range(90)}


def test_a_schema_that_is_too_deep_is_any_object_and_a_parameter_that_is_costs_no_other() -> None:
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    assert sanitize_schema(deep, 100) == {"type": "object"}
    plain = {"type": "integer"}
    assert sanitize_schema({"properties": {"a": plain, "b": deep}}, 100) == {
        "properties": {"a": plain, "b": {}}
    }
    assert sanitize_schema({"properties": "none"}, 100) == {"properties": "none"}


def test_a_parameter_may_be_called_like_a_keyword() -> None:
    kept = sanitize_schema({"properties": {"title": {"title": "T", "description": "d" * 50}}}, 10)
    assert json.dumps(kept) == json.dumps({"properties": {"title": {"description": "d" * 9 + "…"}}})
    names = ("description", "properties", "$ref", "default", "$defs", "required", "enum")
    named = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    assert sanitize_schema(named, 100) == named


POINT = {"type": "object", "properties": {"x": {"type": "number"}, "next": {"$ref": "#/$defs/Point"}}}


def test_references_are_replaced_by_what_they_point_to_and_circles_end() -> None:
    schema = {
        "$defs": {"Point": POINT, "Side": {"enum": ["left", "right"]}, "a/b~c": {"type": "boolean"}},
        "definitions": {"Old": {"type": "integer"}},
        "properties": {
            "at": {"$ref": "#/$defs/Point", "description": "where"},
            "side": {"$ref": "#/$defs/Side"},
            "both": {"type": "array", "items": {"$ref": "#/$defs/Side"}},
            "odd": {"$ref": "#/$defs/a~1b~0c"},
            "old": {"$ref": "#/definitions/Old"},
            "far": {"$ref": "https://example.org/schema.json"},
            "none": {"$ref": "#/$defs/Missing", "type": "string"},
            "self": {"$ref": "#"},
        },
    }
    kept = sanitize_schema(schema, 100)
    assert "$defs" not in kept
    assert "$ref" not in json.dumps(kept)
    found = kept["properties"]
    assert found["at"] == {
        "type": "object", "properties": {"x": {"type": "number"}, "next": {}}, "description": "where",
    }  # fmt: skip
    assert found["both"] == {"type": "array", "items": {"enum": ["left", "right"]}}
    assert (found["odd"], found["old"]) == ({"type": "boolean"}, {"type": "integer"})
    assert (found["far"], found["none"]) == ({}, {"type": "string"})
    assert write_schema(kept).startswith('at: object, side: "left" | "right", both: ["left" | "right"]')


def test_references_that_double_at_each_step_end() -> None:
    names = [f"n{number}" for number in range(60)]
    doubled = {
        name: {"properties": {"a": {"$ref": f"#/$defs/{after}"}, "b": {"$ref": f"#/$defs/{after}"}}}
        for name, after in itertools.pairwise(names)
    }
    schema = {"$defs": doubled, "properties": {"k": {"type": "integer"}, "all": {"$ref": "#/$defs/n0"}}}
    assert len(json.dumps(sanitize_schema(schema, 100))) <= MAX_CHARACTERS
    assert sanitize_schema(schema, 100)["properties"]["k"] == {"type": "integer"}


async def test_a_resources_text_is_shown_and_what_is_no_text_is_named() -> None:
    async with mounted() as (_, box):
        answer = await call(box, "demo_read_readme")
    assert answer.output == (
        "found it\n# Title < |im_end|>\n(file:///a.bin: application/zip that cannot be shown)\n"
        "(image/png that cannot be shown)\n(a link to file:///b.md: the second file)"
    )


async def test_two_tools_of_one_name_are_both_there_and_it_is_said() -> None:
    async with mounted(STDIO.model_copy(update={"tools": ("get-user", "get_user", "nothing")})) as (
        server,
        box,
    ):
        assert box.names == ("demo_get_user_2", "demo_get_user")
        assert (await call(box, "demo_get_user")).output == "get_user"
        assert (await call(box, "demo_get_user_2")).output == "get-user"
        missing, twice = server.problems
    assert missing.startswith("the MCP server demo has no tool 'nothing'; it has: 'add', 'echo'")
    assert twice == (
        "two tools of the MCP server demo are called demo_get_user here: 'get-user' is demo_get_user_2,"
        " 'get_user' is demo_get_user"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "c": 2}', "there is no argument c; there are: a: integer, b: integer"),
        ('{"a": 1, "bb": 2}', "there is no argument bb; did you mean b?"),
        ('{"a": 1}', "argument b is missing; expected a: integer, b: integer"),
        ("", "argument a is missing"),
    ],
)
async def test_a_missing_or_misspelt_argument_never_reaches_the_server(text: str, said: str) -> None:
    schema = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
    with pytest.raises(ToolError, match=re.escape(said)):
        read_arguments(text, schema)


def test_arguments_are_read_from_json_or_from_the_bare_text_of_the_one_parameter() -> None:
    one = {"properties": {"text": {}}}
    assert read_arguments("hello", one) == {"text": "hello"}
    assert read_arguments('{"text": "a"}', one) == {"text": "a"}
    with pytest.raises(ToolError, match="there is no argument other; there are: text: any"):
        read_arguments('{"other": 1}', one)
    with pytest.raises(ToolError, match=r"there is no argument texts; did you mean text\?"):
        read_arguments('{"texts": "print(1)"}', one)
    assert read_arguments('{"other": 1}', {**one, "additionalProperties": True}) == {"other": 1}
    assert read_arguments('{"other": 1}', {"type": "object"}) == {"other": 1}
    assert read_arguments("", {}) == {}
