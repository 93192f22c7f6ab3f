"""Calls in tags, in fences, and on lines of their own.

Each reader looks at one place of a text and says which calls are there, and where the text goes on.
"""

import re
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

from pydantic import JsonValue

from ....messages.turns import ToolCall
from .json_calls import ParsedCalls, Signatures, make_call, read_python, read_shape, resolve
from .lenient_json import ParsedLiteral, read_arguments, read_literal, skip_space
from .react import FENCE

TAGS: Final = ("tool_call", "toolcall", "tool_use", "tool", "function_call", "function", "invoke")
_EITHER: Final = re.compile(
    rf"</(?P<closing>{'|'.join(TAGS)})\s*>|<(?P<tag>{'|'.join(TAGS)})\b(?P<attributes>[^<>\n]{{0,300}}+)>",
    re.IGNORECASE,
)
_MAX_TAGS: Final = 64
"""Tags inside of one body that are looked at."""
_CLOSING: Final = re.compile(r"</\w+\s*>")
_OBJECT: Final = re.compile(r"\{\s*[\"'][\w-]+[\"']\s*:")
_SINGLE_QUOTE: Final = re.compile(r"(?<!\w)'|'(?!\w)")
_PARAMETER_BEGINS: Final = re.compile(r"\s*<parameter[=\s]", re.IGNORECASE)
_CLOSE: Final = {tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE) for tag in TAGS}
_TAG_NAME: Final = re.compile(r"""(?:^\s*=|\bname\s*=)\s*["'“]?([^"'”\s/>]+)""", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_PARAMETER: Final = re.compile(
    r"""\s*<parameter(?:=|\s+name\s*=\s*)["']?([\w.-]+)["']?\s*>"""
    rf"""(.*?)(?:</parameter>|(?<!["'`])(?=<parameter[=\s]|</?(?:{"|".join(TAGS)})\b))""",
    re.DOTALL | re.IGNORECASE,
)
"""One whose own end is missing ends where the next begins, or its call ends."""
_AFTER_BODY: Final = re.compile(r"[\s}\])]*+(?:```\s*+)?(?:</[\w=]*+\s*+>?)?")
_NAME: Final = re.compile(r"([A-Za-z_][\w.]{0,63}+)\(")
_FENCE_HEAD: Final = re.compile(r"```[ \t]*([\w+-]*)[ \t\r]*\n\s*")
_LINE_END: Final = re.compile(r"[ \t]*[;,]?[ \t\r]*(?:\n|\Z)")
_EXAMPLE: Final = re.compile(
    r"\b(?:for (?:example|instance)|e\.g\.|examples?|such as|instead of"
    r"|(?:the|this|following) (?:format|syntax)"
    r"|looks? like|(?:would|could|might) (?:be|write|say)|(?:do not|don't|never) (?:call|write|use))",
    re.IGNORECASE,
)
_JSON_LANGUAGES: Final = ("", "json", "json5", "jsonc", "javascript")
_PYTHON_LANGUAGES: Final = ("", "python", "py")
_XML_LANGUAGES: Final = ("", "xml", "html")
_TOOL_LANGUAGES: Final = ("tool_call", "tool_calls", "tool_code", "tool", "action", "function_call")
_BEFORE: Final = 240
"""Characters before a place that are looked at for what introduces it."""


class ParseResult(NamedTuple):
    """The calls or the answer of one place, and where the text goes on."""

    calls: tuple[ToolCall, ...]
    end: int
    answer: str | None = None


def is_example(text: str, at: int) -> bool:
    """Whether the words before it say so: on its line, or on a line above that ends in a colon."""
    before = text[max(0, at - _BEFORE) : at]
    line = before.rpartition("\n")[2]
    if not line.strip():
        line = before.rstrip().rpartition("\n")[2]
        if not line.endswith(":"):
            return False
    return _EXAMPLE.search(line) is not None


def is_quoted(text: str, at: int) -> bool:
    """Whether it stands in backticks or right behind a quote mark, or its line is quoted with `>`."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return (
        line.replace(FENCE, "").count("`") % 2 == 1
        or line[-1:] in tuple("\"'“‘«")
        or line.lstrip().startswith(">")
    )


def read_tag(text: str, tag: str, opening: re.Match[str], attributes: str, tools: Signatures) -> ParseResult:
    """The calls of one element; without any, the text goes on inside of it, or behind it if it is quoted."""
    tag = tag.lower()
    if is_quoted(text, opening.start()) or is_example(text, opening.start()):
        closing = _CLOSE[tag].search(text, opening.end())
        return ParseResult((), closing.end() if closing else opening.end())
    named = _TAG_NAME.search(attributes)
    if named is None:
        return _read_values(text, opening.end(), tools)
    tool = resolve(named[1], tools)
    given, end = _read_body(text, tag, opening.end(), attributes)
    call = make_call(tool, given, tools) if end else None
    if call is None:
        return ParseResult((), opening.end())
    return ParseResult((call,), _AFTER_BODY.match(text, end).end())  # type: ignore[union-attr]


def _read_body(text: str, tag: str, start: int, attributes: str) -> tuple[JsonValue, int]:
    """What stands in a named element, and its end; an end of 0 where it is cut off."""
    if attributes.endswith("/"):
        pairs = {found[0]: found[1] or found[2] for found in _ATTRIBUTE.findall(attributes)}
        return {key: value for key, value in pairs.items() if key.lower() != "name"}, start
    at = _inside_fence(text, start)
    body = _find_end(text, tag, start)
    if text[at : at + 1] == "{":
        found = _read_value(text, at)
        if found is not None and (body is None or not body.closed or not _is_more(text, found.end, body)):
            return found.value, found.end
        if found is None and _OBJECT.match(text, at) and not _is_whole(text, at, body):
            return None, 0  # cut off by the next call
    parameters: dict[str, JsonValue] = {}
    while (parameter := _PARAMETER.match(text, at)) is not None:
        parameters[parameter[1]] = parameter[2].strip("\r\n")
        at = parameter.end()
    if _PARAMETER_BEGINS.match(text, at):
        return None, 0  # the text's end cut it off
    if parameters:
        return parameters, at
    if body is None or (not body.closed and body.end <= at):
        return None, 0
    content = text[at : body.end].rstrip()
    if not body.closed and _CLOSING.fullmatch(content, max(0, content.rfind("</"))):
        content = content[: content.rfind("</")].rstrip()
    content = content.removesuffix(FENCE) if at > start and content.endswith(FENCE) else content
    return content or {}, body.behind


def _read_value(text: str, at: int) -> ParsedLiteral | None:
    """A value inside of an element; None where its end was guessed beyond the beginning of another."""
    found = read_literal(text, at)
    return None if found and found.loose and TAG.search(text, at, found.end) else found


class _Body(NamedTuple):
    """Where the body of an element ends."""

    end: int
    behind: int
    """Where the text goes on."""
    closed: bool
    """By its own tag, rather than by another call that begins."""


def _find_end(text: str, tag: str, start: int) -> _Body | None:
    """The closing tag, or the next call if that comes first; tags inside of strings do not count."""
    quoted: _Body | None = None
    for found in islice(_EITHER.finditer(text, start), _MAX_TAGS):
        closing = found["closing"]
        if closing is None and _opens_call(text, found):
            return quoted or _Body(found.start(), found.start(), closed=False)
        if closing is not None and closing.lower() == tag:
            body = _Body(found.start(), found.end(), closed=True)
            if not _in_string(text, found.start()):
                return body
            quoted = quoted or body
    return quoted


def _opens_call(text: str, opening: re.Match[str]) -> bool:
    """Whether an opening tag, outside of strings, names a tool, or has what looks like calls behind it."""
    attributes = opening["attributes"]
    calls = _TAG_NAME.search(attributes) or text[skip_space(text, opening.end()) :][:1] in ("{", "[", "<")
    return bool(calls) and not _in_string(text, opening.start())


def _in_string(text: str, at: int) -> bool:
    """Whether a quote or a backtick is open on the line before it; one inside of a word is none."""
    line = text[max(0, at - _BEFORE) : at].rpartition("\n")[2].replace(FENCE, "")
    return any(count % 2 for count in (line.count('"'), line.count("`"), len(_SINGLE_QUOTE.findall(line))))


def _is_whole(text: str, at: int, body: _Body | None) -> bool:
    """Whether what cannot be read as an object ends with its own tag, and has no other call inside."""
    return body is not None and body.closed and TAG.search(text, at, body.end) is None


def _is_more(text: str, at: int, body: _Body) -> bool:
    """Whether an object is only the beginning of what stands before the closing tag."""
    return at < body.end and bool(text[at : body.end].strip(" \t\r\n}])`"))


def _inside_fence(text: str, at: int) -> int:
    """The first place that is not blank, behind a fence's first line if one opens there."""
    at = skip_space(text, at)
    head = _FENCE_HEAD.match(text, at)
    return head.end() if head else at


def _read_values(text: str, start: int, tools: Signatures) -> ParseResult:
    """The calls of an element without a name: objects or Python's calls, one after another."""
    at = _inside_fence(text, start)
    calls: list[ToolCall] = []
    while text[at : at + 1] in ("{", "["):
        found = _read_value(text, at)
        shaped = read_shape(found, tools, sure=True) if found else None
        if found is None or shaped is None:
            break
        if shaped.answer and not calls:
            return ParseResult((), found.end, shaped.answer)
        calls.extend(shaped.calls)
        at = skip_space(text, found.end)
        at = skip_space(text, at + 1) if text[at : at + 1] in (",", "}") else at
    if not calls:
        python = read_python_calls(text, at, tools, sure=True)
        if python is None:
            return ParseResult((), start)
        calls.extend(python.calls)
        at = python.end
    after = _AFTER_BODY.match(text, at)
    return ParseResult(tuple(calls), after.end() if after else at)


def read_python_calls(text: str, at: int, tools: Signatures, *, sure: bool) -> ParseResult | None:
    """`name(…)`, several in a list or each on a line of its own; None unless all are calls of tools."""
    at = skip_space(text, at)
    in_list = text[at : at + 1] == "["
    if in_list:
        at = skip_space(text, at + 1)
    calls: list[ToolCall] = []
    end = at
    while (name := _NAME.match(text, at)) is not None:
        if not sure and resolve(name[1], tools) not in tools:
            return None
        arguments = read_arguments(text, name.end(), None if in_list else _next_call(tuple(tools)))
        call = read_python(name[1], arguments, tools) if arguments else None
        if arguments is None and calls and not in_list:
            break  # cut off; those before it are whole
        if arguments is None or call is None:
            return None
        calls.append(call)
        end = arguments.end
        at = skip_space(text, end)
        if text[at : at + 1] in (",", ";"):
            at = skip_space(text, at + 1)
        elif in_list or "\n" not in text[end:at]:
            break
    if in_list:
        end = skip_space(text, end)
        if text[end : end + 1] not in ("]", ""):
            return None
        end += 1
    return ParseResult(tuple(calls), min(end, len(text))) if calls else None


@cache
def _next_call(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """What shows that a call which was not closed is over: a line that begins a call of one of the tools."""
    if not names:
        return None
    named = "|".join(map(re.escape, names))
    return re.compile(rf"[^\S\n]*+(?:\n[^\S\n]*+)++(?:\w{{1,64}}+\.)?+(?:{named})\(", re.IGNORECASE)


def read_line(text: str, at: int, tools: Signatures) -> ParseResult | None:
    """Calls in Python's form that begin a line, and end one."""
    found = read_python_calls(text, at, tools, sure=False)
    if found is None or not _LINE_END.match(text, found.end) or is_example(text, at):
        return None
    return found


def read_json_line(text: str, at: int, tools: Signatures) -> ParseResult | None:
    """An object or list that begins a line, and ends one. Without known tools it must be all there is."""
    found = read_literal(text, at)
    if found is None:
        return None
    nothing = ParseResult((), found.end)
    alone = tools or not (text[:at].strip() or text[found.end :].strip())
    ends = found.cut or _LINE_END.match(text, found.end)
    if not alone or not ends or is_example(text, at):
        return nothing
    shaped = read_shape(found, tools, sure=False)
    return ParseResult(shaped.calls, found.end, shaped.answer) if shaped else nothing


def read_fence(text: str, at: int, tools: Signatures) -> ParseResult:
    """The calls of a fence that is nothing else; otherwise the text goes on behind it."""
    closing = text.find(FENCE, at + len(FENCE))
    skipped = ParseResult((), closing + len(FENCE) if closing >= 0 else at + len(FENCE))
    head = _FENCE_HEAD.match(text, at)
    if head is None or is_example(text, at) or is_quoted(text, at):
        return skipped
    language = head[1].lower()
    sure = language in _TOOL_LANGUAGES
    found: ParseResult | None = None
    first = text[head.end() : head.end() + 1]
    if first in ("{", "[") and (sure or language in _JSON_LANGUAGES):
        found = _read_objects(text, head.end(), tools, sure)
    if found is None and (sure or language in _PYTHON_LANGUAGES):
        found = read_python_calls(text, head.end(), tools, sure=sure)
    if found is None and first == "<" and (sure or language in _XML_LANGUAGES):
        found = _read_elements(text, head.end(), tools)
    if found is None:
        return skipped
    end = skip_space(text, found.end)
    if not text.startswith(FENCE, end) and end < len(text):
        return skipped
    return found._replace(end=min(len(text), end + len(FENCE)))


def _read_objects(text: str, at: int, tools: Signatures, sure: bool) -> ParseResult | None:
    """Objects one after another."""
    calls: list[ToolCall] = []
    while text[at : at + 1] in ("{", "["):
        found = read_literal(text, at)
        shaped: ParsedCalls | None = read_shape(found, tools, sure=sure) if found else None
        if found is None or shaped is None:
            return None
        if shaped.answer:
            return ParseResult((), found.end, shaped.answer)
        calls.extend(shaped.calls)
        at = skip_space(text, found.end)
        at = skip_space(text, at + 1) if text[at : at + 1] == "," else at
    return ParseResult(tuple(calls), at)


def _read_elements(text: str, at: int, tools: Signatures) -> ParseResult | None:
    """Elements of known tools one after another; with something behind their fence they are an example."""
    calls: list[ToolCall] = []
    while (opening := TAG.match(text, at)) is not None:
        taken = read_tag(text, opening["tag"], opening, opening["attributes"], tools)
        if not taken.calls or any(call.tool not in tools for call in taken.calls):
            return None
        calls.extend(taken.calls)
        at = skip_space(text, taken.end)
    behind = text[at:].removeprefix(FENCE)
    return ParseResult(tuple(calls), at) if calls and not behind.strip() else None


TAG: Final = re.compile(rf"<(?P<tag>{'|'.join(TAGS)})\b(?P<attributes>[^<>\n]{{0,300}}+)>", re.IGNORECASE)
