r"""Replies in the ReAct format, label by label.

    Thought: Use python.            Thought: Done.
    Action: python                  Answer: 408
    Input: print(12*34)

Labels may be in any case, indented, bold or quoted. `Action Input:` and `Final Answer:` are read too; an
input may span lines, stand in a fence, or be JSON such as `{"code": "1+2"}`.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from ....messages.turns import ToolCall
from .json_calls import MAX_NAME, Signatures, make_call, resolve, single_text_argument
from .lenient_json import read_literal

FENCE: Final = "```"
LABEL: Final = (
    r"[ \t>*_#`-]*"
    r"(?:(?P<thought>thought)|(?P<input>(?:action[ \t_]{0,4})?input)|(?P<action>action)"
    r"|(?P<answer>(?:final[ \t]{1,4})?answer)|(?P<observation>observation))"
    r"[ \t]{0,8}[*_`]{0,3}[ \t]{0,8}:[ \t]*(?:\*\*|__)?[ \t]*"
)
"""A label at a line's beginning, to be read without regard to case; its group says which."""
_LABEL: Final = re.compile(LABEL, re.IGNORECASE)
_FENCED: Final = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_BLANK_LINE: Final = re.compile(r"\n[ \t]*\n")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_BOXED: Final = "\\boxed{"
_MARKUP: Final = " \t\r\n*_`\"'.:[](){}"


def next_label(text: str, at: int) -> re.Match[str] | None:
    """The next label at a line's beginning, outside of fences; one that is never closed does not count."""
    match = search_lines(_LABEL, text, at)
    while match is not None:
        opening = text.find(FENCE, at, match.start())
        closing = text.find(FENCE, opening + len(FENCE)) if opening >= 0 else -1
        if closing < 0:
            return match
        at = closing + len(FENCE)
        if match.start() < at:
            match = search_lines(_LABEL, text, at)
    return None


def search_lines(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str] | None:
    """The first line from `at` on whose beginning matches."""
    if at and text[at - 1] != "\n":
        at = text.find("\n", at) + 1
        if not at:
            return None
    while True:
        match = pattern.match(text, at)
        if match is not None:
            return match
        at = text.find("\n", at) + 1
        if not at:
            return None


def read_action(content: str, following: str | None, tools: Signatures) -> ToolCall | None:
    """A tool's name and its input: what stands behind the next label, `following`, or under the name."""
    name, _, rest = content.strip().partition("\n")
    name = name.strip(_MARKUP)[:MAX_NAME]
    tool = resolve(name, tools)
    code = _read_input(rest if following is None else following, tools.get(tool, ()))
    return make_call(tool, code, tools) if tool and code else None


def read_answer(content: str) -> str | None:
    """A boxed value, a fenced block, or the first paragraph."""
    boxed = find_boxed(content)
    if boxed:
        return boxed
    content = content.strip()
    if content.startswith(FENCE):
        fenced = _FENCED.match(content)
        return fenced.group(1).strip() if fenced else content.strip("`").strip()
    paragraph = _BLANK_LINE.split(content, maxsplit=1)[0]
    if paragraph.startswith(("**", "__")) and paragraph.endswith(paragraph[:2]):
        paragraph = paragraph[2:-2]
    elif paragraph.endswith("**") and paragraph.count("**") == 1:
        paragraph = paragraph[:-2]  # the whole line was bold, label included
    return paragraph.strip()


def find_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` whose braces balance; None if there is none."""
    at = text.rfind(_BOXED)
    for _ in range(8):  # a reply that was cut off may end inside a box
        if at < 0:
            return None
        content = _balanced(text, at + len(_BOXED))
        if content is not None:
            return content.strip() or None
        at = text.rfind(_BOXED, 0, at)
    return None


def _read_input(content: str, parameters: Sequence[str]) -> str:
    """The input without what a model wraps around it."""
    fenced = _FENCED.search(content) if FENCE in content else None
    if fenced:
        return fenced.group(1).strip("\n").rstrip()
    code = content.strip("\r\n").rstrip()
    stripped = code.strip()
    if stripped.startswith("{"):
        return _read_object(stripped, parameters) or code
    if len(stripped) > 1 and stripped[0] == stripped[-1] == "`":
        return stripped.strip("`").strip()
    return code


def _read_object(text: str, parameters: Sequence[str]) -> str | None:
    """The text of an object that holds nothing else, or the object as JSON; None where it is none."""
    found = read_literal(text, 0)
    if found is None or found.end < len(text) or not isinstance(found.value, dict):
        return None
    bare = single_text_argument(found.value, parameters)
    if bare or not (found.cut and found.value.keys() <= set(parameters)):
        return bare or text
    return json.dumps(found.value, ensure_ascii=False)


def _balanced(text: str, start: int) -> str | None:
    """The text from `start` up to the brace that closes it."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        brace = match.group()
        if brace == "{":
            depth += 1
        elif brace == "}":
            depth -= 1
            if depth == 0:
                return text[start : match.start()]
    return None
