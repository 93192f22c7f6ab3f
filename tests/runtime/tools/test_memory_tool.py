"""The memory tool: notes are kept, found again, and shared."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.bridge.search.embedding import NgramEmbedder
from agentfactory.configs.tools import MemorySettings
from agentfactory.runtime.tools.base import ToolError
from agentfactory.runtime.tools.builtin.memory import NOTHING, MemoryTool, NoteStore

SETTINGS = MemorySettings()


@asynccontextmanager
async def memory(folder: Path, settings: MemorySettings = SETTINGS) -> AsyncIterator[MemoryTool]:
    tool = MemoryTool(settings, folder / "notes.sqlite", NgramEmbedder)
    await tool.start()
    yield tool
    await tool.aclose()


async def say(tool: MemoryTool, text: str, action: str = "search", k: int = 3) -> str:
    return (await tool.memory.call(json.dumps({"text": text, "action": action, "k": k}))).output


async def test_a_note_is_kept_and_found_by_the_names_operation_and_content(tmp_path: Path) -> None:
    async with memory(tmp_path) as tool:
        kept = await tool.memory.call('{"operation": "store", "content": "bridges listen on port 5560"}')
        found = await tool.memory.call('{"operation": "search", "content": "bridges"}')
        asked = await tool.memory.call('{"operation": "search", "query": "bridges"}')
    assert asked.output == found.output
    assert kept.output == "stored; there are 1 notes now"
    assert found.output.endswith("] bridges listen on port 5560")


async def test_a_note_is_found_by_what_it_says(tmp_path: Path) -> None:
    async with memory(tmp_path) as tool:
        assert await say(tool, "bridges listen on port 5560", "store") == "stored; there are 1 notes now"
        await say(tool, "soup needs salt", "store")
        found = await say(tool, "which port do bridges listen on?", k=1)
        assert found.endswith("] bridges listen on port 5560")
        assert len((await say(tool, "anything")).splitlines()) == 2


async def test_notes_outlive_the_tool(tmp_path: Path) -> None:
    async with memory(tmp_path) as tool:
        await say(tool, "the door code is 4711", "store")
    async with memory(tmp_path) as tool:
        assert "4711" in (await tool.memory.call("door code")).output


async def test_the_same_note_is_kept_once_and_becomes_the_newest(tmp_path: Path) -> None:
    async with memory(tmp_path, MemorySettings(max_notes=2)) as tool:
        for text in ("one", "two", "one", "three"):
            await say(tool, text, "store")
        found = await say(tool, "one", k=9)
        assert "one" in found
        assert "three" in found
        assert "two" not in found


async def test_an_empty_memory_and_an_empty_text_are_said(tmp_path: Path) -> None:
    async with memory(tmp_path) as tool:
        assert await say(tool, "anything") == NOTHING
        assert await say(tool, "  ", "store") == "Error: the text is empty; write a note, or a question"
        assert "at most 4000 characters" in await say(tool, "x" * 5000, "store")


async def test_two_students_share_a_memory(tmp_path: Path) -> None:
    async with memory(tmp_path) as one, memory(tmp_path) as other:
        stored = [
            say(tool, f"note {number} of {name}", "store")
            for name, tool in (("one", one), ("other", other))
            for number in range(10)
        ]
        await asyncio.gather(*stored)
        assert (await say(one, "note", k=20)).count("note ") == 20


async def test_notes_of_another_embedder_are_left_alone(tmp_path: Path) -> None:
    class Other(NgramEmbedder):
        name = "other"
        dimensions = 512

    async with memory(tmp_path) as tool:
        await say(tool, "kept", "store")
    tool = MemoryTool(SETTINGS, tmp_path / "notes.sqlite", Other)
    await tool.start()
    assert await say(tool, "kept") == NOTHING
    await tool.aclose()


async def test_a_file_that_holds_no_notes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.sqlite").write_bytes(b"not a database, and long enough to tell" * 100)
    with pytest.raises(ToolError, match="does not hold notes"):
        await MemoryTool(SETTINGS, tmp_path / "notes.sqlite", NgramEmbedder).start()


async def test_a_closed_memory_is_an_observation(tmp_path: Path) -> None:
    async with memory(tmp_path) as tool:
        pass
    assert (await tool.memory.call("anything")).failure == "crashed"


def test_a_note_is_on_disk_once_it_is_confirmed(tmp_path: Path) -> None:
    notes = NoteStore(tmp_path / "notes.sqlite", NgramEmbedder(), 10)
    notes.store("durable")
    with sqlite3.connect(tmp_path / "notes.sqlite") as other:
        assert other.execute("SELECT text FROM notes").fetchall() == [("durable",)]
    other.close()
    notes.close()
