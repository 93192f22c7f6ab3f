r"""Notation normaliser: one spelling for what people and models write in several ways.

`normalize`: `and` is a comma, `or` a semicolon, `√3` is `\sqrt{3}`, `28 percent` is `28\%`. Only spellings
change, never what is said; each rule is one pattern and takes linear time.

`latex_to_plain`: the commonest LaTeX (`\frac{a}{b}`, `\sqrt{a}`, `x^{n}`, `\cdot`, `\pi`, `\sin(x)`) as plain
notation. A whole LaTeX grammar takes a hundred times as long, so only the rest is left to it.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

_NEXT_EQUATION: Final = re.compile(r"\n+(?=[ $]*[A-Za-z]\w?\s?=)")
_DOLLARS: Final = re.compile(r"(?<!\\)\$")
_AMOUNT: Final = re.compile(r"(?<!\\)\$(?=\s*-?\d)")
_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_LOWERED: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SIGNS: Final = {
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∈": "\\in ", "∪": "\\cup ", "∩": "\\cap ", "∞": "\\infty ",
    "π": "\\pi ", "∅": "\\emptyset ", "±": "\\pm ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "⋅": "\\cdot ",
    "∖": "\\setminus ", "≈": "\\approx ", "′": "'", "’": "'", "θ": "\\theta ", "α": "\\alpha ",
    "β": "\\beta ", "°": "^\\circ ", "º": "^\\circ ", "⊂": "\\subset ", "√": "\\sqrt", "∛": "\\sqrt[3]",
}  # fmt: skip
_SYNONYMS: Final = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "leqslant": "le",
    "geqslant": "ge", "lt": "<", "gt": ">", "neq": "ne", "varnothing": "emptyset", "lvert": "|",
    "rvert": "|", "vert": "|", "displaystyle": " ", "textstyle": " ", "limits": "", "big": "", "Big": "",
    "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "bigg": "", "Bigg": "", "degree": "^\\circ",
    "colon": ":", "cdotp": "cdot", "ast": "*", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")",
    "lbrace": "\\{", "rbrace": "\\}", "prime": "'", "imath": "i", "approxeq": "approx", "thinspace": " ",
    "enspace": " ", "langle": "(", "rangle": ")", "hspace": " ",
    "smallsetminus": "setminus", "backslash": "setminus",
    "textnormal": "text", "mbox": "text", "textrm": "text", "textbf": "text", "textit": "text",
    "mathbf": "mathrm", "mathit": "mathrm", "rm": "", "mathbin": "", "Reals": "\\mathbb{R}",
    "R": "\\mathbb{R}", "bf": "",
}  # fmt: skip
_COMMAND: Final = re.compile(r"\\([A-Za-z]+)")
_JOINT: Final = re.compile(
    r"\s*[,;]?\s*(?:\\(?:text|mathrm)\s*\{\s*,?\s*(and|or)\s*,?\s*\}|(?<![A-Za-z\\{])(and|or)(?![a-z]))\s*[,;]?\s*"
)
_PERCENT: Final = re.compile(
    r"(?<=[\d})])\s*\$?\s*(?:\\?%|\\(?:text|mathrm)\s*\{\s*(?:per\s?cent(?:age)?|pct)\.?\s*\}|(?:per\s?cent(?:age)?|pct)\b\.?)"
)
_ROOT: Final = re.compile(r"\\sqrt(\[\d+\])?\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]|\\[a-z]+))")
_PLAIN_ROOT: Final = re.compile(r"(?<![\\A-Za-z])(sqrt|cbrt)\s*(?=\{)")
_ARGUMENT: Final = r"(\{[^{}]*\}|\\(?!sqrt|frac)[A-Za-z]+|[A-Za-z0-9])"
_BARE_FRACTION: Final = re.compile(rf"\\frac\s*{_ARGUMENT}\s*{_ARGUMENT}")
_EMPTY: Final = re.compile(r"\\\{\s*\\\}|\{\s*\}|\A\s*(?:[Tt]here\s+(?:is|are)\s+)?[Nn]o\s+solutions?\s*\Z")
_DOLLARS_TWICE: Final = re.compile(r"(\$\s*-?[\d.,]+)\s+dollars?\b")
_MARK: Final = re.compile(r"\^\s*\{\s*('+)\s*\}|\^\s*('+)")
_FUNCTION_DEGREES: Final = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_FUNCTION: Final = re.compile(r"(?<![A-Za-z])(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_BRACED_LETTER: Final = re.compile(r"\\mathrm\s*\{\s*([A-Za-z])\s*\}")
_UNION: Final = re.compile(r"(?<=[\])}])\s*(?:U|u)\s*(?=[\[({\\])")
_DOTS: Final = re.compile(r"\\(?:ldots|dots|cdots|dotsc)(?![A-Za-z])")
_DOUBLED: Final = re.compile(r"\\\\(?=[A-Za-z({\[!,;])")
_POWERS: Final = re.compile(r"([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_INDICES: Final = re.compile(r"([₀₁₂₃₄₅₆₇₈₉]+)")
_FRACTION_SIGN: Final = re.compile(r"(?<!\d)(\d*)\s*([¼½¾⅐-⅞])")


def normalize(text: str) -> str:
    r"""The same in the spelling that the readers know.

    >>> normalize("1 and 2"), normalize("2√3"), normalize(r"28 percent")
    ('1, 2', '2\\sqrt{3}', '28\\%')
    """
    if text.isalnum() and text.isascii():
        return text
    if "\n" in text and "\\begin" not in text:
        text = _NEXT_EQUATION.sub(", ", text)
    text = " ".join(text.split())  # patterns are then linear in long blanks
    if "\\\\" in text and "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = _without_delimiters(text)
    if not text.isascii():
        text = _plain_signs(text)
    if "\\" in text:
        text = _COMMAND.sub(_canonical_command, text)
        text = _BRACED_LETTER.sub(r" \1 ", _DOTS.sub("…", text))
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    if "\\circ" in text and _FUNCTION.search(text):
        text = _FUNCTION_DEGREES.sub(r"(\1*\\pi/180)", text)
    return text.strip().removeprefix("=").rstrip(",;").strip()


def _braced_fraction(found: re.Match[str]) -> str:
    above, below = (part if part.startswith("{") else f"{{{part}}}" for part in found.groups())
    return rf"\frac{above}{below}"


def _root(found: re.Match[str]) -> str:
    return rf"\sqrt{found[1] or ''}{{{found[2] or found[3]}}}"


_RULES: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (_JOINT, lambda found: "; " if "or" in found.groups() else ", "),
    (_PERCENT, r"\\%"),
    (_PLAIN_ROOT, r"\\\1"),
    (_ROOT, _root),
    (_BARE_FRACTION, _braced_fraction),
    (_EMPTY, r"\\emptyset "),
    (_DOLLARS_TWICE, r"\1"),
    (_MARK, lambda found: found[1] or found[2]),
    (_UNION, r" \\cup "),
)


def _without_delimiters(text: str) -> str:
    """Without `$…$` and `\\(…\\)`, where they are not signs of an amount of money."""
    if "\\(" in text or "\\[" in text:
        text = re.sub(r"\\[()\[\]]", " ", text)
    count = len(_DOLLARS.findall(text))
    if count >= 2 and count % 2 == 0 and len(_AMOUNT.findall(text)) < count:
        text = _DOLLARS.sub(" ", text)
    return text.strip()


def _plain_signs(text: str) -> str:
    text = _FRACTION_SIGN.sub(_fraction, text)
    text = _POWERS.sub(lambda found: f"^{{{found[1].translate(_RAISED)}}}", text)
    text = _INDICES.sub(lambda found: f"_{{{found[1].translate(_LOWERED)}}}", text)
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    return text


def _fraction(found: re.Match[str]) -> str:
    """`1½` as `1 1/2`."""
    above, _, below = unicodedata.normalize("NFKC", found[2]).partition("⁄")
    return f"{found[1]} {above}/{below}".strip() if below else found[0]


def _canonical_command(found: re.Match[str]) -> str:
    same = _SYNONYMS.get(found[1])
    if same is None:
        return found[0]
    return rf"\{same}" if same.isalpha() else same


_PLAIN_WORDS: Final = {
    "cdot": "*", "times": "*", "div": "/", "pi": " pi ", "infty": " oo ", "left": "", "right": "",
    "le": "<=", "leq": "<=", "ge": ">=", "geq": ">=", "lt": "<", "gt": ">", "cup": " U ", "displaystyle": "",
}  # fmt: skip
_FUNCTIONS: Final = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp",
     "ln"}
)  # fmt: skip
_PLAIN_SIGNS: Final = (("π", " pi "), ("∞", " oo "), ("²", "^2 "), ("³", "^3 "))
_PLAIN_COMMAND: Final = re.compile(r"\\([A-Za-z]+)\s*")
_MIXED: Final = re.compile(r"\d\s*\\[dt]?frac")
_DERIVATIVE: Final = re.compile(r"frac\s*\{\s*d\b|frac\s*\{\s*d[a-zA-Z]?\s*\}\s*\{\s*d")
_MAX_CHARACTERS: Final = 500


class _NotCovered(ValueError):
    """Not among the commonest."""


def latex_to_plain(text: str) -> str | None:
    r"""The same in plain notation; None where that takes a grammar.

    >>> latex_to_plain(r"\frac{\sqrt{3}}{2}x^{2}")
    '((sqrt(3))/(2))x^(2)'
    """
    if len(text) > _MAX_CHARACTERS or _MIXED.search(text) or _DERIVATIVE.search(text) or "_" in text:
        return None
    for sign, plain in _PLAIN_SIGNS:
        text = text.replace(sign, plain)
    try:
        return _translate(text.replace("\\{", "⦃").replace("\\}", "⦄")).replace("⦃", "{").replace("⦄", "}")
    except (_NotCovered, RecursionError):
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
                raise _NotCovered
            inner, at = _group(text, at)
            out.append(f"({_translate(inner)})")
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _command(text: str, at: int) -> tuple[str, int]:
    """A command with its arguments, and where it ends."""
    found = _PLAIN_COMMAND.match(text, at)
    if found is None:
        raise _NotCovered
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
    if name in _PLAIN_WORDS:
        return _PLAIN_WORDS[name], end
    raise _NotCovered


def _group(text: str, at: int) -> tuple[str, int]:
    """Content of the braces at this place, and their end."""
    if text[at : at + 1] != "{":
        raise _NotCovered
    depth = 0
    for end in range(at, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[at + 1 : end], end + 1
    raise _NotCovered
