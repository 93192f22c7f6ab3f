r"""Reads a policy's reply in the ReAct format.

    Thought: Use python.            Thought: Done.
    Action: python                  Answer: 408
    Input: print(12*34)

A reply holds a call or an answer, whichever comes first; what follows it, and all after an
`Observation:` that the model made up, is ignored. Labels may be in any case, indented, bold or
quoted. `Action Input:` and `Final Answer:` are read too; an input may span lines, stand in a fence,
or be JSON such as `{"code": "1+2"}`; without an answer line, the last `\boxed{…}` is the answer.

Any text gives a `Reply`; nothing here raises, and the time is linear in the text.
"""

import json
import re
from typing import Final, NamedTuple

from messages.turns import ToolCall

MAX_CHARACTERS: Final = 100_000
"""A longer reply is cut before it is read."""

_LABEL: Final = re.compile(
    r"^[ \t>*_#`-]*"
    r"(?:(?P<thought>thought)|(?P<input>(?:action[ \t_]{0,4})?input)|(?P<action>action)"
    r"|(?P<answer>(?:final[ \t]{1,4})?answer)|(?P<observation>observation))"
    r"[ \t]{0,8}[*_`]{0,3}[ \t]{0,8}:[ \t]*(?:\*\*|__)?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE: Final = "```"
_FENCED: Final = re.compile(r"```[ \t]*\w*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_BLANK_LINE: Final = re.compile(r"\n[ \t]*\n")
_BOXED: Final = "\\boxed{"
_CODE_KEYS: Final = ("code", "input", "query", "expression")
_MARKUP: Final = " \t\r\n*_`\"'.:[](){}"
_MAX_TOOL_CHARACTERS: Final = 64


class Reply(NamedTuple):
    """What a reply says. There are calls, or an answer, or neither."""

    thought: str
    calls: tuple[ToolCall, ...]
    """In the order in which they were written; they may run at the same time."""
    answer: str | None


class _Section(NamedTuple):
    label: str
    """Empty for text before the first label."""
    content: str


def parse_reply(text: str) -> Reply:
    """Find the first call or answer.

    >>> parse_reply("Thought: Easy.\\nAnswer: 7").answer
    '7'
    """
    text = text[:MAX_CHARACTERS]
    thoughts: list[str] = []
    sections = _sections(text)
    for index, section in enumerate(sections):
        following = sections[index + 1] if index + 1 < len(sections) else None
        if section.label == "action":
            call = _read_call(section.content, following)
            if call is not None:
                return Reply(_join(thoughts), (call,), None)
        elif section.label == "answer":
            answer = _read_answer(section.content)
            if answer:
                return Reply(_join(thoughts), (), answer)
        elif section.label in ("", "thought"):
            thoughts.append(section.content)
    said = "\n".join(section.content for section in sections)
    return Reply(_join(thoughts), (), find_boxed(said))


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


def _sections(text: str) -> list[_Section]:
    """Cut the reply at its labels, up to an observation."""
    found: list[_Section] = []
    label, start = "", 0
    match = _next_label(text, 0)
    while match is not None:
        found.append(_Section(label, text[start : match.start()]))
        label, start = match.lastgroup or "", match.end()
        if label == "observation":
            return found
        match = _next_label(text, start)
    found.append(_Section(label, text[start:]))
    return found


def _next_label(text: str, at: int) -> re.Match[str] | None:
    """The next label outside a fence; a fence that is never closed does not count."""
    match = _LABEL.search(text, at)
    while match is not None:
        opening = text.find(_FENCE, at, match.start())
        closing = text.find(_FENCE, opening + len(_FENCE)) if opening >= 0 else -1
        if closing < 0:
            return match
        at = closing + len(_FENCE)
        if match.start() < at:
            match = _LABEL.search(text, at)
    return None


def _read_call(content: str, following: _Section | None) -> ToolCall | None:
    """A tool's name and its input: in the next section, or under the name."""
    name, _, rest = content.strip().partition("\n")
    name = name.strip(_MARKUP).lower()[:_MAX_TOOL_CHARACTERS]
    if following is not None and following.label == "input":
        rest = following.content
    code = _read_input(rest)
    return ToolCall(tool=name, input=code) if name and code else None


def _read_input(content: str) -> str:
    """The input without what a model wraps around it."""
    fenced = _FENCED.search(content) if _FENCE in content else None
    if fenced:
        return fenced.group(1).strip("\n").rstrip()
    code = content.strip("\r\n").rstrip()
    stripped = code.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        return _read_json(stripped)
    if len(stripped) > 1 and stripped[0] == stripped[-1] == "`":
        return stripped.strip("`").strip()
    return code


def _read_json(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict) and len(value) == 1:
        for key in _CODE_KEYS:
            code = value.get(key)
            if isinstance(code, str):
                return code.strip("\r\n").rstrip()
    return text


def _read_answer(content: str) -> str | None:
    """A boxed value, a fenced block, or the first paragraph."""
    boxed = find_boxed(content)
    if boxed:
        return boxed
    content = content.strip()
    if content.startswith(_FENCE):
        fenced = _FENCED.match(content)
        return fenced.group(1).strip() if fenced else content.strip("`").strip()
    paragraph = _BLANK_LINE.split(content, maxsplit=1)[0]
    if paragraph.startswith(("**", "__")) and paragraph.endswith(paragraph[:2]):
        paragraph = paragraph[2:-2]
    elif paragraph.endswith("**") and paragraph.count("**") == 1:
        paragraph = paragraph[:-2]  # the whole line was bold, label included
    return paragraph.strip()


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


_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)


def _join(thoughts: list[str]) -> str:
    return "\n".join(stripped for thought in thoughts if (stripped := thought.strip()))
