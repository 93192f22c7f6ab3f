"""promote_skill: what becomes a tool, what does not, and where it runs."""

import ast
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.configs.roles import StudentSettings
from agentfactory.messages.turns import ToolCall, ToolResult
from agentfactory.runtime.tools.base import ToolError
from agentfactory.runtime.tools.skills import SkillStore, read_skill
from agentfactory.runtime.tools.tool_provider import ToolProvider
from agentfactory.runtime.tools.tool_set import ToolSet
from agentfactory.runtime.tools.type_hints import UnknownType, type_of

SOURCE = '''"""Sums."""
import math

def mean(numbers: list[float], digits: int = 2) -> float:
    """Says what numbers are on average.

    Args:
        numbers: at least one
    """
    print("working")
    return round(math.fsum(numbers) / len(numbers), digits)

if __name__ == "__main__":
    print(mean([1.0]))
'''


@asynccontextmanager
async def workbench(folder: Path, episode: str = "e") -> AsyncIterator[ToolSet]:
    kit = ToolProvider(
        StudentSettings.model_validate(
            {
                "tools": ["write_file", "promote_skill"],
                "toolbox": {"workspace": str(folder), "sandbox": {"allow_weak": True}},
                "sandbox": {"allow_weak": True},
            }
        )
    )
    async with asyncio.timeout(60):
        await kit.start()
    try:
        async with kit.box(episode) as box:
            yield box
    finally:
        await kit.aclose()


async def promote(
    box: ToolSet, source: str = SOURCE, function: str = "mean", name: str = "average"
) -> ToolResult:
    await box.call(ToolCall(tool="write_file", input=json.dumps({"path": "s.py", "content": source})))
    arguments = {"file_path": "s.py", "function_name": function, "tool_name": name}
    return await box.call(ToolCall(tool="promote_skill", input=json.dumps(arguments)))


async def use(box: ToolSet, name: str, text: str) -> ToolResult:
    return await box.call(ToolCall(tool=name, input=text))


async def test_a_function_is_a_tool_at_once_and_after_the_next_start(tmp_path: Path) -> None:
    async with workbench(tmp_path) as box:
        promoted = await promote(box)
        assert promoted.output == (
            "it is a tool now: average: Says what numbers are on average. "
            "Input: JSON {numbers: [number], digits: integer = 2}"
        )
        assert (await use(box, "average", '{"numbers": [1, 2, 4]}')).output == "working\n2.33"
    async with workbench(tmp_path, "another") as box:
        assert box.names == ("write_file", "promote_skill", "average")
        assert (await use(box, "average", '{"numbers": [1, 2], "digits": 0}')).output == "working\n2.0"
        tool = box.find("average")
        assert tool is not None
        assert tool.parameters is not None
        assert tool.parameters["required"] == ["numbers"]


async def test_arguments_and_results_of_a_skill_are_checked(tmp_path: Path) -> None:
    async with workbench(tmp_path) as box:
        await promote(box)
        assert "argument numbers" in (await use(box, "average", '{"numbers": "x"}')).output
        assert "ZeroDivisionError" in (await use(box, "average", '{"numbers": []}')).output
        lies = 'def lies(a: str) -> int:\n    """Lies."""\n    return a\n'
        assert (await promote(box, lies, "lies", "lies")).ok
        result = await use(box, "lies", "word")
        assert result.output.startswith(
            "Error: lies gave back what it must not: Input should be a valid integer"
        )


async def test_a_skill_runs_in_the_sandbox_and_is_held_to_its_limits(tmp_path: Path) -> None:
    source = 'def peek(path: str) -> str:\n    """Peeks."""\n    return open(path).read()\n'
    endless = 'def endless(a: int) -> int:\n    """Loops."""\n    while True: pass\n'
    async with workbench(tmp_path) as box:
        assert (await promote(box, source, "peek", "peek")).ok
        peeked = await use(box, "peek", "/etc/passwd")
        assert not peeked.ok
        assert "root" not in peeked.output
        assert (await promote(box, endless, "endless", "endless")).ok
        assert (await use(box, "endless", "1")).failure == "timeout"


async def test_promoting_a_name_again_takes_the_new_function(tmp_path: Path) -> None:
    async with workbench(tmp_path) as box:
        await promote(box)
        newer = 'def f(a: int) -> int:\n    """Doubles."""\n    return 2 * a\n'
        assert (await promote(box, newer, "f", "average")).ok
        assert (await use(box, "average", "21")).output == "42"
    assert [skill.function for skill in SkillStore(tmp_path / "skills").load()] == ["f"]


@pytest.mark.parametrize(
    ("source", "function", "name", "said"),
    [
        ("def f(a: int) -> int:\n    return a\n", "f", "double", "needs a docstring"),
        ('def f(a) -> int:\n    """F."""\n', "f", "double", "parameter a of f needs a type hint"),
        ('def f(a: int):\n    """F."""\n', "f", "double", "needs a type hint for what it gives back"),
        ('def f(a: Path) -> int:\n    """F."""\n', "f", "double", "the type hint Path of parameter a"),
        ('def f(*a: int) -> int:\n    """F."""\n', "f", "double", "only have parameters with names"),
        (
            'def f(a: int = g()) -> int:\n    """F."""\n',
            "f",
            "double",
            "default of a has to be",
        ),
        (
            'def f(a: int) -> int:\n    """F."""\n',
            "g",
            "double",
            "at its top level; there are: f",
        ),
        ("def f(:\n", "f", "double", "the file is not Python: line 1"),
        (SOURCE, "mean", "Mean!", "is no name for a tool"),
        (SOURCE, "mean", "../evil", "is no name for a tool"),
        (SOURCE, "mean", "write_file", "there is a tool write_file already"),
        (SOURCE, "mean", "python", "there is a tool python already"),
        (SOURCE.replace("math", "socket"), "mean", "average", "the file does not run: ImportError"),
        ("(" * 3000, "f", "double", "the file is not Python"),
        ("", "f", "double", "there is none"),
    ],
)
async def test_what_cannot_be_a_tool_is_refused_with_a_reason(
    tmp_path: Path, source: str, function: str, name: str, said: str
) -> None:
    async with workbench(tmp_path) as box:
        before = box.names
        result = await promote(box, source, function, name)
        assert not result.ok
        assert said in result.output
        assert box.names == before
    assert SkillStore(tmp_path / "skills").load() == []


def test_reading_a_skill_runs_nothing_of_it() -> None:
    source = "import sys\nsys.exit('ran')\n" + SOURCE
    assert read_skill(source, "mean", "average").name == "average"


def test_a_damaged_skill_is_left_out(tmp_path: Path) -> None:
    shelf = SkillStore(tmp_path)
    shelf.keep(read_skill(SOURCE, "mean", "average"))
    (tmp_path / "broken.py").write_bytes(b"\xff")
    (tmp_path / "other.py").write_text("# The function mean of this file is the tool average.\n" + SOURCE)
    (tmp_path / "endless.py").symlink_to("/dev/zero")
    (tmp_path / "long.py").write_text("#" * 300_000)
    assert [skill.name for skill in shelf.load()] == ["average"]
    said = "\n".join(shelf.problems)
    for name in ("broken", "other", "endless", "long"):
        assert f"{tmp_path}/{name}.py is no skill: " in said


BY_HAND = {
    "average": (SOURCE, ""),
    "mean": (SOURCE + "def helper(n: int) -> int:\n    return n\n", ""),
    "one_of": ("def _help(n): pass\n" + SOURCE, ""),
    "both": (SOURCE + "def helper(n: int) -> int:\n    return n\n", "it defines mean, helper; call it both"),
    "none": ("x = 1\n", "which function is the tool is not plain: it defines none; call it none"),
    "bare": ("def bare(n: int) -> int:\n    return n\n", "bare needs a docstring"),
    "hintless": ('def hintless(n) -> int:\n    """Says."""\n', "parameter n of hintless needs a type hint"),
    "Upper": (SOURCE, "'Upper' is no name for a tool"),
    "text": ("no Python at all", "the file is not Python: line 1"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_file_put_there_by_hand_is_a_skill_or_it_is_said_why_not(name: str, tmp_path: Path) -> None:
    source, said = BY_HAND[name]
    (tmp_path / f"{name}.py").write_text(source)
    shelf = SkillStore(tmp_path)
    assert [skill.name for skill in shelf.load()] == ([] if said else [name])
    assert [said in problem for problem in shelf.problems] == ([True] if said else [])


async def test_a_skill_put_there_by_hand_is_a_tool_and_one_with_a_tools_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills" / "average.py").write_text(SOURCE)
    (tmp_path / "skills" / "python.py").write_text(SOURCE)
    settings = StudentSettings.model_validate({
        "tools": ["promote_skill"], "toolbox": {"workspace": str(tmp_path), "sandbox": {"allow_weak": True}},
        "sandbox": {"allow_weak": True},
    })  # fmt: skip
    kit = ToolProvider(settings)
    async with asyncio.timeout(60):
        await kit.start()
    async with kit.box("e") as box:
        result = await use(box, "average", '{"numbers": [1, 2]}')
    await kit.aclose()
    assert result.output.endswith("1.5")
    assert kit.problems == ("the skill python is left out: another tool has this name",)


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        ("int", int),
        ("'str'", str),
        ("list[int]", list[int]),
        ("dict[str, float]", dict[str, float]),
        ("tuple[int, ...]", tuple[int, ...]),
        ("typing.List[bool]", list[bool]),
        ("int | None", int | None),
        ("Optional[str]", str | None),
    ],
)
def test_hints_are_read_without_running_them(hint: str, kind: object) -> None:
    assert type_of(ast.parse(hint, mode="eval").body) == kind


@pytest.mark.parametrize("hint", ["Path", "list[open('x')]", "dict[int]", "a.b", "print()", "Literal[x]"])
def test_other_hints_are_refused(hint: str) -> None:
    with pytest.raises(UnknownType):
        type_of(ast.parse(hint, mode="eval").body)


def test_a_name_that_leads_elsewhere_is_no_name() -> None:
    for name in ("a", "A", "a b", "a/b", "..", "a" * 50, "ä", "1a", ""):
        with pytest.raises(ToolError, match="is no name for a tool"):
            read_skill(SOURCE, "mean", name)
