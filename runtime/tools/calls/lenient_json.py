r"""Reads JSON and Python literals as models write them; nothing is ever evaluated.

Valid JSON goes to the standard library. What is not quite JSON is read by `Reader`: single and triple
quotes, Python's constants, keys without quotes, trailing commas, line breaks and unescaped quotes inside
a string, brackets that were never closed. Brackets may be missing at the text's end, and where a tag, a
fence's end or the next object of calls stands, but not the end of a string, nor of a number at the text's
end: half an argument is not what the model meant.
"""

import json
import re
from typing import Final, NamedTuple, NoReturn

from pydantic import JsonValue

MAX_DEPTH: Final = 48
"""Brackets within brackets; what is deeper is not read."""

_QUOTE: Final = re.compile(r"""(?P<raw>[rR])?[uU]?(?P<mark>'{3}|"{3}|['"])""")
_SMART: Final = str.maketrans("“”‘’", "\"\"''")
_MARK: Final = (
    r"</|```|<(?:tool|function|invoke|parameter)\w{0,16}\b"
    r"|(?<=\n)[ \t]*+\{\s*+[\"'](?:name|tool|tool_name|action|function|type)[\"']\s*+:"
)
"""What ends a value whose brackets are not closed: nothing of the kind can stand behind a value in one."""
_CUT: Final = rf"\Z|{_MARK}"
_KEY: Final = r"(?:[\"'“][^\"'“”\n]{0,64}+[\"'”]|[\w-]{1,64}+)"
_AFTER: Final = {
    "}": re.compile(rf"\s*+(?:\}}|{_CUT}|,\s*+(?:\}}|{_CUT}|{_KEY}\s*+:))"),
    "]": re.compile(rf"\s*+(?:[,\]]|{_CUT})"),
    ")": re.compile(rf"\s*+(?:[,)]|{_CUT})"),
    ":": re.compile(r"\s*+:"),
}
"""What shows that a quote ends its string, by what comes after: a closing bracket, or a key's colon."""
_END: Final = re.compile(rf"\s*+(?:{_MARK})")
_NUMBER: Final = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
)
_WORD: Final = re.compile(r"[A-Za-z_][\w-]*")
_ESCAPE: Final = re.compile(
    r"\\(u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL
)
_ESCAPES: Final = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": "",
    "\\": "\\", "'": "'", '"': '"', "/": "/", "`": "`",
}  # fmt: skip
_CONSTANTS: Final[dict[str, bool | None]] = {
    "true": True, "True": True, "false": False, "False": False, "null": None, "None": None,
}  # fmt: skip
_CLOSING: Final = {"[": "]", "(": ")", "{": "}"}


class UnreadableLiteral(ValueError):
    """The text is no literal. It never leaves this package's readers."""


class ParsedLiteral(NamedTuple):
    """A value, and where the text goes on behind it."""

    value: JsonValue
    end: int
    cut: bool = False
    """Whether closing brackets are missing."""
    loose: bool = False
    """Whether a string holds quotes that are not escaped, so that its end was guessed."""


class Arguments(NamedTuple):
    """What stands between a call's parentheses."""

    positional: tuple[JsonValue, ...]
    named: dict[str, JsonValue]
    end: int
    """Behind the closing parenthesis."""


def read_literal(text: str, at: int) -> ParsedLiteral | None:
    """The value that begins at `at`; None if there is none."""
    try:
        return ParsedLiteral(*_STRICT.raw_decode(text, at))
    except (ValueError, RecursionError):
        pass
    try:
        reader = Reader(text, at)
        return ParsedLiteral(reader.value(0, "}"), reader.at, reader.cut, reader.loose)
    except UnreadableLiteral:
        return None


def read_arguments(text: str, at: int, next_call: re.Pattern[str] | None = None) -> Arguments | None:
    """The arguments of a call whose opening parenthesis stands right before `at`; None if they are none.

    Where `next_call` matches behind a value, a closing parenthesis may be missing.
    """
    try:
        return Reader(text, at, next_call).arguments()
    except UnreadableLiteral:
        return None


def skip_space(text: str, at: int) -> int:
    """The next place that is not blank."""
    while text[at : at + 1].isspace():
        at += 1
    return at


def _refuse(constant: str) -> NoReturn:
    raise UnreadableLiteral(constant)


_STRICT: Final = json.JSONDecoder(strict=False, parse_constant=_refuse)


class Reader:
    """One pass over a text from `at` on; each method moves `at` behind what it read, or raises Unreadable."""

    def __init__(self, text: str, at: int, next_call: re.Pattern[str] | None = None) -> None:
        self._text = text
        self._next_call = next_call
        self.at = at
        self.cut = False
        """Whether the text's end, or a mark, stood for a closing bracket."""
        self.loose = False
        """Whether a string held quotes that are not escaped: then a mark may stand inside of it, too."""

    def value(self, depth: int, closing: str) -> JsonValue:
        """Any literal, inside of brackets that are closed by `closing`."""
        self._skip()
        if depth > MAX_DEPTH or self.at >= len(self._text):
            raise UnreadableLiteral
        first = self._text[self.at]
        if first == "{":
            return self._object(depth)
        if first in "[(":
            return self._array(depth)
        opening = self._opening()
        if opening is not None:
            return self._string(opening, closing)
        return self._number_or_constant()

    def arguments(self) -> Arguments:
        """Values, with `name=` before each or only the later ones, up to the closing parenthesis."""
        positional: list[JsonValue] = []
        named: dict[str, JsonValue] = {}
        while not self._ends(")", bool(positional or named)):
            name = self._argument_name()
            if name is None and named:
                raise UnreadableLiteral
            value = self.value(0, ")")
            if name is None:
                positional.append(value)
            else:
                named[name] = value
            self._comma(")")
        return Arguments(tuple(positional), named, self.at)

    def _object(self, depth: int) -> JsonValue:
        self.at += 1
        found: dict[str, JsonValue] = {}
        while not self._ends("}", bool(found)):
            key = self._key()
            self._skip()
            if self._text[self.at : self.at + 1] != ":":
                raise UnreadableLiteral
            self.at += 1
            found[key] = self.value(depth + 1, "}")
            self._comma("}")
        return found

    def _array(self, depth: int) -> JsonValue:
        closing = _CLOSING[self._text[self.at]]
        self.at += 1
        found: list[JsonValue] = []
        while not self._ends(closing, bool(found)):
            found.append(self.value(depth + 1, closing))
            self._comma(closing)
        return found

    def _key(self) -> str:
        self._skip()
        opening = self._opening()
        if opening is not None:
            return self._string(opening, ":")
        word = _WORD.match(self._text, self.at)
        if word is None:
            raise UnreadableLiteral
        self.at = word.end()
        return word.group()

    def _argument_name(self) -> str | None:
        self._skip()
        word = _WORD.match(self._text, self.at)
        if word is None:
            return None
        after = skip_space(self._text, word.end())
        if self._text[after : after + 1] != "=":
            return None
        self.at = after + 1
        return word.group()

    def _opening(self) -> re.Match[str] | None:
        if self._text[self.at] in "“”‘’":
            self._text = self._text[: self.at] + self._text[self.at :].translate(_SMART)
        return _QUOTE.match(self._text, self.at)

    def _string(self, opening: re.Match[str], closing: str) -> str:
        mark = opening["mark"]
        start = self.at = opening.end()
        strange = False
        while True:
            end = self._text.find(mark, self.at)
            if end < 0 or (strange and end + len(mark) == len(self._text)):
                raise UnreadableLiteral
            self.at = end + len(mark)
            if self._escaped(start, end):
                self.at = end + 1
            elif len(mark) > 1 or _AFTER[closing].match(self._text, self.at) or self._at_call(self.at):
                break
            else:
                strange = self.loose = True  # then the text's end shows nothing
        content = self._text[start:end]
        if opening["raw"] or "\\" not in content:
            return content
        return _ESCAPE.sub(_unescape, content)

    def _escaped(self, start: int, at: int) -> bool:
        """Whether an odd number of backslashes stands before `at`."""
        first = at
        while first > start and self._text[first - 1] == "\\":
            first -= 1
        return (at - first) % 2 == 1

    def _number_or_constant(self) -> JsonValue:
        number = _NUMBER.match(self._text, self.at)
        if number is not None:
            if number.end() == len(self._text):
                raise UnreadableLiteral  # the text's end may have cut it
            self.at = number.end()
            return _number(number.group().replace("_", ""))
        word = _WORD.match(self._text, self.at)
        if word is None or word.group() not in _CONSTANTS:
            raise UnreadableLiteral
        self.at = word.end()
        return _CONSTANTS[word.group()]

    def _ends(self, closing: str, any_yet: bool) -> bool:
        """Step over the closing bracket; if there is anything, the end of the text or a mark will do."""
        before = self.at
        self._skip()
        if self._text[self.at : self.at + 1] == closing:
            self.at += 1
            return True
        if self.at < len(self._text) and not self._at_mark(before):
            return False
        if not any_yet:
            raise UnreadableLiteral
        self.cut = True
        self.at = min(before, len(self._text))
        return True

    def _comma(self, closing: str) -> None:
        """Step over a comma; only the closing bracket, the text's end or a mark may stand there instead."""
        before = self.at
        self._skip()
        if self._text[self.at : self.at + 1] == ",":
            self.at = skip_space(self._text, self.at + 1)
            if self.at >= len(self._text):
                raise UnreadableLiteral  # something was to follow
        elif self._text[self.at : self.at + 1] not in ("", closing):
            self.at = before
            if not self._at_mark(before):
                raise UnreadableLiteral

    def _at_mark(self, at: int) -> bool:
        return not self.loose and (_END.match(self._text, at) is not None or self._at_call(at))

    def _at_call(self, at: int) -> bool:
        return self._next_call is not None and self._next_call.match(self._text, at) is not None

    def _skip(self) -> None:
        text, at = self._text, self.at
        while text[at : at + 1].isspace():
            at += 1
        self.at = at


def _number(digits: str) -> int | float:
    try:
        if "x" in digits.lower():
            return int(digits, 16)
        return int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    except ValueError as error:  # thousands of digits
        raise UnreadableLiteral from error


def _unescape(found: re.Match[str]) -> str:
    """An escape that neither JSON nor Python knows stays as it is written."""
    code = found[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, found[0])
