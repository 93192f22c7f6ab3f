r"""Reads the calls, or the answer, out of a policy's reply, in whichever form it wrote them.

- ReAct's lines (`runtime.tools.calls.react`): `Action:` with `Input:`, and further such pairs right behind;
- `<tool name="search">{"query": "tides"}</tool>`, `<tool_call>{"name": …, "arguments": …}</tool_call>`,
  `<tool_call><function=search><parameter=query>…`: any number of them;
- JSON of a shape in `runtime.tools.calls.json_calls`, in a fence or on lines of its own;
- `search(query="tides", k=3)` on a line of its own or in a fence, where there is such a tool.

What comes first counts, calls or an answer. Not executed: what stands in `<think>…</think>` or in a
comment, behind an `Observation:` or `<tool_response>` (the policy made it up) or an answer, in a fence
that is not calls as a whole, in backticks or quotes, in a quoted line, or behind words such as "for
example". Nor is a call of which the text's end cut an argument off; only brackets and tags may be missing
there. Without calls and without an `Answer:`, the last `\boxed{…}` is the answer.

Any text gives a `ReplyContent`; nothing here raises, and the time is linear in the text.
"""

import re
from typing import Final, NamedTuple

from ....messages.turns import ToolCall
from .call_formats import TAGS, ParseResult, read_fence, read_json_line, read_line, read_tag
from .json_calls import Signatures, fix_surrogates
from .lenient_json import skip_space
from .react import FENCE, LABEL, find_boxed, next_label, read_action, read_answer, search_lines

__all__ = ["MAX_CALLS", "MAX_CHARACTERS", "ReplyContent", "Signatures", "find_boxed", "parse_reply"]

MAX_CHARACTERS: Final = 100_000
"""A longer reply is cut before it is read."""
MAX_CALLS: Final = 32
"""Calls of one reply; what follows is not read."""
_MAX_TRIES: Final = 32
"""Places that look like calls and are none, after which a text is taken for prose."""

_THOUGHTS: Final = "think|thinking|thought|reasoning|reflection|scratchpad"
_INLINE: Final = re.compile(
    rf"```|<(?:(?P<comment>!--)|(?i:(?P<think>{_THOUGHTS})>"
    r"|(?P<seen>tool_response|tool_result|tool_output|observation|function_results?)\b"
    rf"|(?P<tag>{'|'.join(TAGS)})\b(?P<attributes>[^<>\n]{{0,300}}+)>))"
    r"|\[TOOL_CALLS\]|<\|python_tag\|>"
)
_TAG_LINE: Final = re.compile(rf"\n[ \t]*<(?:{'|'.join(TAGS)})\b", re.IGNORECASE)
_THOUGHT_ENDS: Final = re.compile(rf"</(?:{_THOUGHTS})>", re.IGNORECASE)
_THOUGHT_BEGINS: Final = re.compile(rf"<(?:{_THOUGHTS})>", re.IGNORECASE)
_LINE: Final = re.compile(
    rf"{LABEL}|[ \t]{{0,3}}(?:(?P<json>[\[{{])|(?P<python>[a-z_][\w.]{{0,63}}+\())", re.IGNORECASE
)
"""How a line begins that matters: with a label, or like a call."""


class ReplyContent(NamedTuple):
    """The content of a reply. There are calls, or an answer, or neither."""

    thought: str
    """What comes before them, without labels and tags."""
    calls: tuple[ToolCall, ...]
    """In the order in which they were written; they may run at the same time."""
    answer: str | None


def parse_reply(text: str, tools: Signatures | None = None) -> ReplyContent:
    """Find the first calls, or the answer. `tools`: those there are, which decides ambiguous cases.

    >>> parse_reply("Thought: Easy.\\nAnswer: 7").answer
    '7'
    >>> parse_reply('<tool name="a">{"n": 1}</tool><tool name="b">{}</tool>').calls[1].tool
    'b'
    """
    return _Reading(text[:MAX_CHARACTERS], tools or {}).read()


def _is_call(line: re.Match[str]) -> bool:
    """Whether a line that was found begins like a call, and not with a label."""
    return line.lastgroup in ("json", "python")


class _Reading:
    """One pass over a reply, from event to event: labels and calls at lines' beginnings, tags and fences."""

    def __init__(self, text: str, tools: Signatures) -> None:
        self._text = text
        self._tools = tools
        self._at = 0
        self._prose: int | None = 0
        """Where the current thought began; None in sections that are none."""
        self._thoughts: list[str] = []
        self._hidden: list[tuple[int, int]] = []
        self._calls: list[ToolCall] = []
        self._answer: str | None = None
        self._tries = 0
        self._line_from = self._inline_from = -1
        self._line: re.Match[str] | None = None
        self._inline: re.Match[str] | None = None

    def read(self) -> ReplyContent:
        """From the beginning to the first thing that ends the reply."""
        self._skip_unopened_thought()
        stop = self._run()
        if self._calls:
            return ReplyContent(self._thought(), tuple(self._calls[:MAX_CALLS]), None)
        answer = self._answer or find_boxed(self._visible(stop))
        return ReplyContent(self._thought(), (), fix_surrogates(answer) if answer else None)

    def _run(self) -> int:
        """Go from event to event; returns where the policy's own words end."""
        while len(self._calls) < MAX_CALLS:
            line = self._next_line()
            event = self._next_inline()
            if event is not None and (line is None or event.start() < line.start() + _is_call(line)):
                going = self._on_inline(event)
            elif line is not None:
                event = line
                going = self._on_line(line) if _is_call(line) else self._on_label(line)
            else:
                break
            if not going:
                self._keep_thought(event.start())
                return event.start()
        self._keep_thought(len(self._text))
        return len(self._text)

    def _next_line(self) -> re.Match[str] | None:
        """The next line that begins with a label, or like a call; searched for only once."""
        if self._line_from < self._at:
            self._line = search_lines(_LINE, self._text, self._at)
            self._line_from = self._line.start() if self._line else len(self._text) + 1
        return self._line

    def _next_inline(self) -> re.Match[str] | None:
        """The next tag or fence."""
        if self._inline_from < self._at:
            self._inline = _INLINE.search(self._text, self._at)
            self._inline_from = self._inline.start() if self._inline else len(self._text) + 1
        return self._inline

    def _on_label(self, match: re.Match[str]) -> bool:
        """Whether to go on behind it."""
        label = match.lastgroup
        if label == "observation" or (self._calls and label in ("action", "answer")):
            return False
        self._keep_thought(match.start())
        self._at = match.end()
        if label == "thought":
            self._prose = match.end()
        elif label == "answer":
            following = next_label(self._text, match.end())
            end = following.start() if following else len(self._text)
            tag = _TAG_LINE.search(self._text, match.end(), end)
            self._answer = read_answer(self._text[match.end() : tag.start() if tag else end])
            self._at = end
            return not self._answer
        elif label == "action":
            return self._on_action(match.end())
        return True

    def _on_action(self, start: int) -> bool:
        """`Action:` with its input, or with a call in another form; further pairs are taken as well."""
        following = next_label(self._text, start)
        end = following.start() if following else len(self._text)
        given: str | None = None
        if following is not None and following.lastgroup == "input":
            after = next_label(self._text, following.end())
            given = self._text[following.end() : after.start() if after else len(self._text)]
            following = after
        elif self._tries < _MAX_TRIES and self._take(self._other_form(start)):
            return not self._answer
        self._tries += following is None or following.lastgroup != "input"
        call = read_action(self._text[start:end], given, self._tools)
        if call is None:
            return not self._calls
        self._calls.append(call)
        if following is not None and following.lastgroup == "action" and len(self._calls) < MAX_CALLS:
            return self._on_action(following.end())
        return False

    def _other_form(self, start: int) -> ParseResult | None:
        """A call in another form right behind `Action:`."""
        at = skip_space(self._text, start)
        first = self._text[at : at + 1]
        if first in ("{", "["):
            return read_json_line(self._text, at, self._tools)
        if self._text.startswith(FENCE, at):
            return read_fence(self._text, at, self._tools)
        if first == "<":
            found = _INLINE.match(self._text, at)
            if found and found["tag"]:
                return read_tag(self._text, found["tag"], found, found["attributes"], self._tools)
            return None
        return read_line(self._text, at, self._tools)

    def _on_line(self, match: re.Match[str]) -> bool:
        """A line that begins like JSON, or like a call in Python's form."""
        self._at = match.end()
        self._tries += 1
        if self._tries <= _MAX_TRIES:
            taken = read_json_line(self._text, match.end() - 1, self._tools) if match["json"] else None
            if taken is None and self._tools:
                taken = read_line(self._text, match.start(), self._tools)
            self._take(taken, match.start())
        return not self._answer

    def _on_inline(self, match: re.Match[str]) -> bool:
        """A tag or a fence."""
        text = self._text
        self._at = match.end()
        if match["seen"]:
            return False
        if match["comment"]:
            closing = text.find("-->", match.end())
            self._at = closing + 3 if closing >= 0 else len(text)
        elif match["think"]:
            ends = _THOUGHT_ENDS.search(text, match.end())
            self._hide(match, ends.start() if ends else len(text), ends.end() if ends else len(text))
        elif self._tries >= _MAX_TRIES:
            if match[0] == FENCE:
                self._at = max(match.end(), text.find(FENCE, match.end()) + len(FENCE))
        else:
            self._tries += 1
            self._take(self._read_inline(match), match.start())
        return not self._answer

    def _read_inline(self, match: re.Match[str]) -> ParseResult | None:
        if match[0] == FENCE:
            return read_fence(self._text, match.start(), self._tools)
        if match["tag"]:
            return read_tag(self._text, match["tag"], match, match["attributes"], self._tools)
        at = skip_space(self._text, match.end())
        return read_json_line(self._text, at, self._tools) or read_line(self._text, at, self._tools)

    def _take(self, taken: ParseResult | None, start: int | None = None) -> bool:
        """Go on behind what was read there; whether it was calls or an answer."""
        if taken is None:
            return False
        found = bool(taken.calls or (taken.answer and not self._calls))
        if found and start is not None:
            self._keep_thought(start)
            self._tries -= 1
        if found or start is not None:
            self._at = max(self._at, taken.end)
        self._calls.extend(taken.calls)
        if not self._calls:
            self._answer = taken.answer
        return found

    def _hide(self, opening: re.Match[str], end: int, behind: int) -> None:
        """A thought in tags."""
        self._keep_thought(opening.start())
        if not self._calls:
            self._thoughts.append(self._text[opening.end() : end])
        self._hidden.append((opening.start(), behind))
        self._prose = self._at = behind

    def _skip_unopened_thought(self) -> None:
        """A thought that the prompt opened ends with a tag that nothing in the reply belongs to."""
        if "</" not in self._text:
            return
        ends = _THOUGHT_ENDS.search(self._text)
        if ends and not _THOUGHT_BEGINS.search(self._text, 0, ends.start()):
            self._thoughts.append(self._text[: ends.start()])
            self._hidden.append((0, ends.end()))
            self._prose = self._at = ends.end()

    def _keep_thought(self, end: int) -> None:
        if self._prose is not None and not self._calls:
            self._thoughts.append(self._text[self._prose : end])
        self._prose = None

    def _thought(self) -> str:
        return "\n".join(stripped for thought in self._thoughts if (stripped := thought.strip()))

    def _visible(self, stop: int) -> str:
        """The policy's own words without thoughts in tags."""
        if not self._hidden:
            return self._text[:stop]
        kept, at = [], 0
        for start, end in self._hidden:
            kept.append(self._text[at:start])
            at = end
        return "".join((*kept, self._text[at:stop]))
