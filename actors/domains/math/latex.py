r"""The commonest LaTeX as plain notation, since a whole LaTeX grammar takes a hundred times as long.

`\frac{a}{b}`, `\sqrt{a}`, `x^{n}`, `\cdot`, `\pi`, `\sin(x)` and their like; anything else is left to the
grammar.
"""

import re
from typing import Final

_WORDS: Final = {
    "cdot": "*", "times": "*", "div": "/", "pi": " pi ", "infty": " oo ", "left": "", "right": "",
    "le": "<=", "leq": "<=", "ge": ">=", "geq": ">=", "lt": "<", "gt": ">", "cup": " U ", "displaystyle": "",
}  # fmt: skip
_FUNCTIONS: Final = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp",
     "ln"}
)  # fmt: skip
_SIGNS: Final = (("π", " pi "), ("∞", " oo "), ("²", "^2 "), ("³", "^3 "))
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)\s*")
_MIXED: Final = re.compile(r"\d\s*\\[dt]?frac")
_DERIVATIVE: Final = re.compile(r"frac\s*\{\s*d\b|frac\s*\{\s*d[a-zA-Z]?\s*\}\s*\{\s*d")
_MAX_CHARACTERS: Final = 500


class _Odd(ValueError):
    """Not among the commonest."""


def plain_of(text: str) -> str | None:
    r"""The same in plain notation; None where that takes a grammar.

    >>> plain_of(r"\frac{\sqrt{3}}{2}x^{2}")
    '((sqrt(3))/(2))x^(2)'
    """
    if len(text) > _MAX_CHARACTERS or _MIXED.search(text) or _DERIVATIVE.search(text) or "_" in text:
        return None
    for sign, plain in _SIGNS:
        text = text.replace(sign, plain)
    try:
        return _translate(text.replace("\\{", "⦃").replace("\\}", "⦄")).replace("⦃", "{").replace("⦄", "}")
    except (_Odd, RecursionError):
        return None


def _translate(text: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "\\":
            written, at = _command(text, at)
            out.append(written)
        elif text[at] in "{}":
            if text[at] == "}" or not out or not out[-1].endswith("^"):
                raise _Odd
            inner, at = _group(text, at)
            out.append(f"({_translate(inner)})")
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _command(text: str, at: int) -> tuple[str, int]:
    """A command with its arguments, and where it ends."""
    found = _COMMAND.match(text, at)
    if found is None:
        raise _Odd
    name, end = found[1], found.end()
    if name in ("frac", "dfrac", "tfrac"):
        above, end = _group(text, end)
        below, end = _group(text, end)
        return f"(({_translate(above)})/({_translate(below)}))", end
    if name == "sqrt":
        inner, end = _group(text, end)
        return f"sqrt({_translate(inner)})", end
    if name in _FUNCTIONS and text[end : end + 1] == "(":
        return name, end
    if name in _WORDS:
        return _WORDS[name], end
    raise _Odd


def _group(text: str, at: int) -> tuple[str, int]:
    """What the braces at this place hold, and where they end."""
    if text[at : at + 1] != "{":
        raise _Odd
    depth = 0
    for end in range(at, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[at + 1 : end], end + 1
    raise _Odd
