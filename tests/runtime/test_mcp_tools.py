"""Mounted tools of MCP servers: real servers, over stdio and HTTP, in good health and bad."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from configs.tools import McpServerSettings
from messages.turns import ToolCall, ToolResult
from runtime.tools.foreign import read_arguments, tamed
from runtime.tools.mcp_client import McpServer
from runtime.tools.toolbox import ToolBox
from tests.free_ports import free_port

DEMO = Path(__file__).with_name("mcp_demo.py")
STDIO = McpServerSettings(name="demo", command=(sys.executable, str(DEMO), "stdio"), max_description_chars=60)


@asynccontextmanager
async def mounted(settings: McpServerSettings = STDIO) -> AsyncIterator[tuple[McpServer, ToolBox]]:
    server = McpServer(settings)
    await server.start()
    try:
        yield server, ToolBox(server.tools)
    finally:
        await server.aclose()


async def call(box: ToolBox, name: str, text: str = "{}") -> ToolResult:
    return await box.call(ToolCall(tool=name, input=text))


async def test_a_servers_tools_stand_under_its_name_and_can_be_called() -> None:
    async with mounted() as (_, box):
        assert box.names == ("demo_add", "demo_echo", "demo_pid_of", "demo_die", "demo_hang", "demo_fail")
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


def test_a_schema_that_is_too_long_says_no_more_than_an_object() -> None:
    long = {"type": "object", "properties": {f"p{n}": {"type": "string", "title": "x"} for n in range(500)}}
    assert tamed(long, 100) == {"type": "object"}
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    assert tamed(deep, 100) == {"type": "object"}
    kept = tamed({"properties": {"title": {"title": "T", "description": "d" * 50}}}, 10)
    assert json.dumps(kept) == json.dumps({"properties": {"title": {"description": "d" * 9 + "…"}}})


def test_arguments_are_read_from_json_or_from_the_bare_text_of_the_one_parameter() -> None:
    one = {"properties": {"text": {}}}
    assert read_arguments("hello", one) == {"text": "hello"}
    assert read_arguments('{"text": "a"}', one) == {"text": "a"}
    assert read_arguments('{"other": 1}', one) == {"text": '{"other": 1}'}
    assert read_arguments("", {}) == {}
