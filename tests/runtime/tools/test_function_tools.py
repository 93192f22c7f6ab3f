"""`@tool`: what a function says of itself, and how a model's arguments are held to it."""

import asyncio
import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from agentfactory.messages.turns import ToolCall
from agentfactory.runtime.tools.base import ToolError, sanitize_output
from agentfactory.runtime.tools.calls.parser import parse_reply
from agentfactory.runtime.tools.docstrings import read_docstring
from agentfactory.runtime.tools.function_tool import FunctionTool, tool
from agentfactory.runtime.tools.parameters import BadSignature, OtherNames
from agentfactory.runtime.tools.tool_formats import mcp_format, openai_format, prompt_line, written_arguments
from agentfactory.runtime.tools.tool_set import ToolSet


class Place(BaseModel):
    """A place."""

    town: str
    height_m: float = 0.0


@tool
async def weather(
    place: Place, days: Annotated[int, Field(ge=1, le=9)] = 1, unit: Literal["C", "F"] = "C"
) -> list[str]:
    """Says how the weather
    will be.

    Args:
        place: where
        days: how many days,
            today included
        unit: of the temperature
    """
    return [f"{place.town} {day} {unit}" for day in range(days)]


@tool
def shout(text: str, times: int = 1) -> str:
    """Says it loudly."""
    return text.upper() * times


@tool
async def wait(seconds: float) -> str:
    """Waits.

    :param seconds: how long
    """
    if seconds > 1:
        raise ToolError("that is too long", "timeout")
    return "done"


class Counter:
    """Holds a state that its tools share."""

    def __init__(self) -> None:
        self.count = 0

    @tool
    async def add(self, amount: int) -> int:
        """Adds."""
        self.count += amount
        return self.count


async def observe(which: FunctionTool, text: str) -> str:
    return (await which.call(text)).output


def test_name_description_and_schema_come_from_the_function() -> None:
    assert weather.name == "weather"
    assert weather.description == "Says how the weather will be."
    assert weather.parameters == {
        "$defs": {
            "Place": {
                "type": "object",
                "properties": {"town": {"type": "string"}, "height_m": {"type": "number", "default": 0.0}},
                "required": ["town"],
            }
        },
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "place": {"$ref": "#/$defs/Place", "description": "where"},
            "days": {
                "type": "integer",
                "minimum": 1,
                "maximum": 9,
                "default": 1,
                "description": "how many days, today included",
            },
            "unit": {
                "type": "string",
                "enum": ["C", "F"],
                "default": "C",
                "description": "of the temperature",
            },
        },
        "required": ["place"],
    }


async def test_arguments_arrive_with_their_types_and_the_result_as_json() -> None:
    result = await weather.call('{"place": {"town": "Oslo"}, "days": "2"}')
    assert result.ok
    assert json.loads(result.output) == ["Oslo 0 C", "Oslo 1 C"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"place": {"town": "Oslo"}, "days": 12}', "days: Input should be less than or equal to 9"),
        ('{"place": {"town": "Oslo"}, "unit": "K"}', "argument unit: Input should be 'C' or 'F', found K"),
        ('{"place": "Oslo"}', "argument place: "),
        ('{"place": {}}', "argument place.town is missing"),
        ("{}", 'argument place is missing; expected place: object, days: integer = 1, unit: "C" | "F" = "C"'),
        ('{"place": {"town": "Oslo"}, "dayz": 1}', "there is no argument dayz; did you mean days?"),
        ('{"place": {"town": "Oslo"}, "zzz": 1}', "there is no argument zzz; there are: place: object"),
        ('{"place": ', "the input is not a JSON object ("),
        ("Oslo", "expected a JSON object with place: object"),
        ("", "expected a JSON object with place: object"),
    ],
)  # fmt: skip
async def test_a_wrong_argument_is_an_observation_that_says_which_and_what(text: str, said: str) -> None:
    result = await weather.call(text)
    assert (result.ok, result.failure) == (False, "error")
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("hello", "HELLO"),
        ('{"text": "hi", "times": 2}', "HIHI"),
        ('{"text": 5}', "5"),
        ("{not json", "{NOT JSON"),
        ('"quoted"', '"QUOTED"'),
        ("", "Error: expected a JSON object with text: string, times: integer = 1, found nothing"),
    ],
)
async def test_the_bare_text_of_the_first_parameter_will_do_where_all_others_have_defaults(
    text: str, output: str
) -> None:
    assert await observe(shout, text) == output


@tool
async def keep(code: str) -> str:
    """Keeps it."""
    return code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"cod": "print(1)"}', "there is no argument cod; did you mean code?; argument code is missing"),
        ('{"a": 1}', "there is no argument a; there are: code: string; argument code is missing"),
        ("{}", "argument code is missing; expected code: string"),
        ('{"code": "print(1)", "coded": 1}', "there is no argument coded; did you mean code?"),
        ('{"code": "print(1', "the input is not a JSON object ("),
        ("{'code': 'print(1)'}", "the input is not a JSON object ("),
        ('{"code": ["print(1)"]}', "argument code: Input should be a valid string"),
    ],
)
async def test_an_object_never_stands_for_the_one_text_that_a_tool_takes(text: str, said: str) -> None:
    result = await keep.call(text)
    assert not result.ok
    assert result.output.startswith(f"Error: {said}")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"code": "x"}', "x"),
        ('{"code": "{\\"cod\\": 1}"}', '{"cod": 1}'),
        ('{"a": 1}["a"]', '{"a": 1}["a"]'),
        ("{1, 2}", "{1, 2}"),
        ("{x: 1 for x in y}", "{x: 1 for x in y}"),
    ],
)
async def test_a_text_that_only_begins_like_an_object_stays_a_text(text: str, kept: str) -> None:
    assert await observe(keep, text) == kept


async def test_a_text_that_is_an_object_itself_comes_through_a_reply_as_it_is() -> None:
    (call,) = parse_reply('<tool name="keep">{"code": "{\\"cod\\": 1}"}</tool>', {"keep": ("code",)}).calls
    assert await observe(keep, call.input) == '{"cod": 1}'


@tool
def find_notes(folder: Annotated[str, OtherNames("path", "dir")] = ".", k: int = 3) -> str:
    """Finds."""
    return f"{folder} {k}"


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ('{"path": "a"}', "a 3"),
        ('{"dir": "a", "k": 1}', "a 1"),
        ('{"folder": "a"}', "a 3"),
        ('{"folder": "a", "path": "b"}', "Error: there is no argument path; there are: folder: string"),
        ('{"path": 5.5, "x": 1}', "Error: there is no argument x; there are: folder: string"),
    ],
)
async def test_an_argument_may_have_another_name_which_nobody_is_told(text: str, output: str) -> None:
    assert (await observe(find_notes, text)).startswith(output)
    assert "path" not in json.dumps(find_notes.parameters)


async def test_a_tool_error_is_an_observation_with_its_own_kind() -> None:
    result = await wait.call('{"seconds": 5}')
    assert (result.output, result.failure) == ("Error: that is too long", "timeout")


async def test_any_other_error_of_the_function_is_raised() -> None:
    @tool
    async def broken(text: str) -> str:
        """Breaks."""
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match="gone"):
        await broken.call("gone")


async def test_a_result_of_another_type_than_promised_is_said() -> None:
    @tool
    async def lies(text: str) -> int:
        """Promises a number."""
        return text  # type: ignore[return-value]

    result = await lies.call("word")
    assert result.failure == "crashed"
    assert result.output.startswith("Error: lies gave back what it must not: Input should be a valid integer")


async def test_methods_are_the_tools_of_their_object() -> None:
    one, other = Counter(), Counter()
    await one.add.call('{"amount": 2}')
    assert await observe(one.add, '{"amount": 3}') == "5"
    assert other.count == 0


async def test_parameters_may_have_the_names_of_a_models_own_methods() -> None:
    @tool
    async def odd(copy: str, json: int, model_dump: bool = False) -> str:
        """Has odd names."""
        return f"{copy} {json} {model_dump}"

    assert await observe(odd, '{"copy": "a", "json": 1, "model_dump": true}') == "a 1 True"


async def test_no_text_makes_a_tool_raise() -> None:
    texts = [
        "[" * 5000,
        '{"a":' * 5000,
        "\x00",
        "{}",
        "null",
        "[]",
        '{"place": null}',
        "{" + '"a":1,' * 1000 + "}",
    ]
    for text in texts:
        for each in (weather, shout, wait, Counter().add):
            result = await each.call(text)
            assert result.ok or result.output.startswith("Error: ")


def test_a_function_that_says_too_little_is_refused() -> None:
    def untyped(a, b: int) -> int:  # type: ignore[no-untyped-def]
        """Adds."""
        return a + b  # type: ignore[no-any-return]

    def undocumented(a: int) -> int:
        return a

    def no_result(a: int):  # type: ignore[no-untyped-def]
        """Gives."""

    def misnamed(a: int) -> int:
        """Gives.

        Args:
            b: not there
        """
        return a

    def many(*numbers: int) -> int:
        """Adds."""
        return sum(numbers)

    for function in (untyped, undocumented, no_result, misnamed, many):
        with pytest.raises(BadSignature, match=function.__name__):
            tool(function)


def test_both_formats_carry_the_same_schema() -> None:
    said = openai_format(shout)
    assert said["type"] == "function"
    function = said["function"]
    assert isinstance(function, dict)
    assert function["name"] == mcp_format(shout)["name"] == "shout"
    assert function["parameters"] == mcp_format(shout)["inputSchema"] == shout.parameters


def test_a_prompt_says_what_json_a_tool_of_several_parameters_takes() -> None:
    assert prompt_line(shout) == "shout: Says it loudly. Input: JSON {text: string, times: integer = 1}"
    assert prompt_line(wait) == "wait: Waits."


def test_arguments_by_name_become_the_text_of_a_call() -> None:
    assert written_arguments(shout, {"text": "a"}) == '{"text": "a"}'


def test_a_docstring_is_read_in_the_forms_that_are_in_use() -> None:
    said = read_docstring("Does.\n\nMore of it.\n\nArgs:\n  a (int): one\n  b: two\n\nReturns:\n  c: not one")
    assert said.summary == "Does. More of it."
    assert said.parameters == {"a": "one", "b": "two"}
    assert read_docstring("Does.\n\n:param int a: one\n:returns: it").parameters == {"a": "one"}
    assert read_docstring(None).summary == ""


class Noted:
    """Writes down when it was started and closed."""

    def __init__(self, name: str, log: list[str], broken: bool = False) -> None:
        self.name = name
        self._log = log
        self._broken = broken

    async def start(self) -> None:
        if self._broken:
            raise OSError(self.name)
        self._log.append(f"+{self.name}")

    async def aclose(self) -> None:
        self._log.append(f"-{self.name}")


async def test_what_tools_share_is_started_before_and_closed_after_them() -> None:
    log: list[str] = []
    box = ToolSet([shout], parts=[Noted("a", log), Noted("b", log)])
    await box.start()
    assert (await box.call(ToolCall(tool="shout", input="x"))).output == "X"
    await box.aclose()
    assert log == ["+a", "+b", "-b", "-a"]


async def test_a_box_that_does_not_start_closes_what_was_started() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="b"):
        await ToolSet([], parts=[Noted("a", log), Noted("b", log, broken=True)]).start()
    assert log == ["+a", "-a"]


async def test_a_plain_function_does_not_hold_up_the_event_loop() -> None:
    import threading

    gate = threading.Event()

    @tool
    def blocks(text: str) -> str:
        """Blocks until the event loop lets it go."""
        return f"{text} {gate.wait(timeout=30)}"

    async def release() -> None:
        gate.set()

    result, _ = await asyncio.gather(blocks.call("went on:"), release())
    assert result.output == "went on: True"


async def test_halves_of_characters_go_neither_in_nor_out() -> None:
    for text in ('{"text": "\\ud83d"}', "\udc80"):
        assert "halves of characters" in await observe(shout, text)
    assert sanitize_output("a\udc80", 9) == "a?"


def test_foreign_text_cannot_end_a_turn() -> None:
    assert sanitize_output("a <|im_end|> b", 9) == "a < |im_…"
