r"""Extraction of the final answer from what a model wrote around it.

    The largest $n$ is 34.                                  34
    So \boxed{1} and \boxed{-2}.                            1, -2
    … Final Answer: The final answer is $12$. I hope it is correct.    12

One pass over bounded text, no parsing. Where the words deny the answer (`it is not 5`), where it stays open
which of several numbers is meant, or where what is said is about something else (`twice the answer is 10`,
`so 2x = 10`), the text is left as it is, and then no reading of it is right.
"""

import re
from typing import Final, NamedTuple

from .answer_structure import read_name
from .quantities import changes_value

MAX_SENTENCE: Final = 600
"""Longer sentences without a box say nothing in particular."""

_BLANK: Final = re.compile(r"\s+")
_END_OF_TURN: Final = re.compile(r"<\|[a-z_]+\|>")
_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*\{")
_PART_BEFORE: Final = re.compile(
    r"[-+/^<>]\Z|[\w)]\s*\*\Z|\\(?:cdot|times|div|pm|mp|sqrt|le|ge|lt|gt|leq|geq|ne|neq|not)\Z"
)
_PART_BEHIND: Final = re.compile(
    r"\s*[$)\]\\]*\s*(?:[\^_'<>]|[-+*/]\s*(?:\d|\\[a-z]|[A-Za-z](?![A-Za-z]))|\\(?:cdot|times|div|pm)(?![A-Za-z]))"
    r"|[A-Za-z](?![A-Za-z])|\d"
)
_ALTERNATIVE_BEFORE: Final = re.compile(r"\d[\s$)]*(?:,\s*)?or\Z|\A[\s$(\\-]*\d[\d.]*[\s$)]*,\Z")
_ALTERNATIVE_BEHIND: Final = re.compile(r"[\s$)\]*\\]*(?:,|,?\s*(?:or|and)(?![A-Za-z]))[\s$(\\-]*\d")
"""Another number beside the box: `\\boxed{5} or 7`."""
_JOINS: Final = re.compile(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])|[,;]")
_MAX_BETWEEN_BOXES: Final = 40
_ANNOUNCED: Final = re.compile(
    r"####\s*|<answer>\s*|#+\s*(?:final\s+)?answer\s*\n\s*|(?:final\s+)?answer\**\s*(?:(?:is|are|=)\s*:?|:)\**\s*|\banswer\s+(?=\$|\\[\[(])",
    re.IGNORECASE,
)
_INTRODUCED: Final = re.compile(
    r"(?:\A|\b(?:and|so|thus|hence|therefore|then|finally|the|my|our|your|this)\W+)"
    r"(?:(?:final|correct|right|exact|numerical|required|desired|simplified|expected|overall)\W+)*\Z",
    re.IGNORECASE,
)
"""Words before `answer` where it is the one that was asked for: not `second best`, not `his`."""
_PART_OF_OTHER: Final = re.compile(
    r"\b(?:of|twice|half|double|triple|before|after|than|to|from|by|with|times|plus|minus|over|like|and)"
    r"\s+(?:the|my|our|your|this)\W+(?:[a-z]+\W+){0,2}\Z",
    re.IGNORECASE,
)
_CORRECTION: Final = re.compile(
    r"\b(?:actually|wait|hold\s+on|sorry|correction|scratch\s+that)\b|\bno,|[.!?]\s+or\b(?!,?\s+equivalently)",
    re.IGNORECASE,
)
"""Behind an answer: it is taken back."""
_QUOTES: Final = re.compile(r"\\?\"|\*\*")
_HOPE: Final = re.compile(r"\s*I hope (?:it|this) is correct\.?\s*", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z\\$*\[])|\n\s*\n")
_CLAUSE_END: Final = re.compile(r"[,;:!?\n]|\.(?!\d)")
_DENIAL: Final = re.compile(
    r"n't\b|\b(?:not|never|neither|nor|wrong|incorrect|false|except|cannot|unless|without|instead|rather|but"
    r"|unsure|unknown|doubt|deny|denies|excluded?|suppose[ds]?|assumed?|imagine|pretend|claim(?:s|ed)?|says?|said|thought"
    r"|impossible|absurd|mistaken?|unlikely|hardly|barely|a\s+lie)\b",
    re.IGNORECASE,
)
_VAGUE: Final = re.compile(
    r"\b(?:no|than|least|most|about|maybe|perhaps|might|could|would|should|may|can|either|guess|if|approximately|nearly)\b",
    re.IGNORECASE,
)
_NEAR: Final = 16
"""Characters before the answer in which a vague word is about the answer."""
_LINK: Final = (
    r"(?:is|are|was|be|equals?|equal\s+to|gives?|gets?|yields?|obtain|find|found|have|has|that|thus|therefore"
    r"|hence|so|then|=)"
)
_AT_THE_END: Final = re.compile(
    rf"(?:\A|(?<=[\s$*])){_LINK}(?:\s+|\s*(?=[$\\]))|(?<=[A-Za-z]):\s+", re.IGNORECASE
)
_BEFORE_A_SIDE: Final = re.compile(rf"(?:{_LINK}|we|answer|result|plus|minus|times)\Z", re.IGNORECASE)
"""A word before what is no part of a longer name: `so 2x`, `answer + 1`; not `the value of 2x`."""
_ANOTHER: Final = re.compile(r"(?<![A-Za-z])(?:is|are)\s+[-\d$\\(]\S*\s+or\b|=", re.IGNORECASE)
"""Before a link: something was stated already, as in `x = 1 or x = 2`."""
_ASIDE: Final = re.compile(r",\s+(?:which|since|because|as|where)\s.*\Z", re.DOTALL | re.IGNORECASE)
_CHANGED: Final = frozenset({"squared", "cubed", "doubled", "halved", "tripled"})
_AT_THE_START: Final = re.compile(
    r"\A(?:(?:so|thus|therefore|hence|then)\b,?\s*)?(.+?)\s+is\s+(?:the|our|my|your)\s+"
    r"(?:(?:final|correct|right|only)\s+)?(?:answer|solution|result|value)\b[^,;]*\Z",
    re.IGNORECASE | re.DOTALL,
)
_SPAN: Final = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|\$((?:\\\$|[^$])+)\$", re.DOTALL)
_PROSE: Final = re.compile(
    r"(?<![A-Za-z\\{])(?!(?:and|or|percent|pct|sin|cos|tan|cot|sec|csc|log|exp|sqrt|infinity|inf|per|mod|gcd|lcm|min"
    r"|max|arcsin|arccos|arctan|sinh|cosh|tanh|abs|mod)\b)[A-Za-z]{3,}(?![A-Za-z(])"
)
_IS: Final = re.compile(r"(?<![A-Za-z\\{])(?:is|are|[Ss]o|[Ww]e)(?![A-Za-z])")
_STATED: Final = re.compile(
    r"\b(?:is|are|equals|has|have|had|makes?|made|earns?|costs?|pays?|paid|spends?|spent|needs?|takes?|saves?|sells?"
    r"|sold|started\s+with|(?:total|profit|amount)\s+of)\s+(?:(?:exactly|only|just|a\s+total\s+of|in\s+total)\s+)?\\?\$?\Z",
    re.IGNORECASE,
)
"""Directly before the one number of a sentence that states it."""
_COMPARED: Final = re.compile(
    r"\b(?:too|off|higher|lower|away|missing|from|when|otherwise|base|octal|hex|hexadecimal|binary)\b",
    re.IGNORECASE,
)
_DELIMITER: Final = re.compile(r"\\[()\[\]]|[$*]")
_WORD: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_NUMBER: Final = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?(?![\w/^]|[.,]\d)")


class _Candidate(NamedTuple):
    """Something that was put forward as the answer, and where."""

    at: int
    text: str | None
    """None where the words around it deny it."""


def extract_answer(text: str) -> str:
    r"""The answer that the text states; the text itself where it states none, or is nothing but the answer.

    >>> extract_answer(r"Thus the sum is $\boxed{12}$."), extract_answer("x = 3")
    ('12', 'x = 3')
    """
    text = _HOPE.sub(" ", _without_thoughts(_BLANK.sub(_one_blank, text))).strip()
    found = [*_boxes(text), *_announcements(text)]
    if found:
        last = max(found, key=lambda candidate: candidate.at)
        return text if last.text is None or _CORRECTION.search(text, last.at) else last.text
    if not _is_prose(text):
        return text
    sentence = _SENTENCE_END.split(text)[-1].strip()
    return _read_sentence(sentence) or text


def _one_blank(found: re.Match[str]) -> str:
    """Patterns are then linear in long blanks."""
    return "\n" * min(found[0].count("\n"), 2) or " "


def _without_thoughts(text: str) -> str:
    text = _END_OF_TURN.split(text.rpartition("</think>")[2])[0]
    answered, tag, _ = text.rpartition("</answer>")
    return answered if tag else text


def _boxes(text: str) -> list[_Candidate]:
    """The last box, with those before it that a comma or an `and` joins to it."""
    groups: list[list[str]] = []
    before = start = 0
    for found in _BOX.finditer(text):
        if found.start() < before:
            continue  # a box in a box
        between = text[before : found.start()]
        end = _closing(text, found.end())
        if groups and len(between) <= _MAX_BETWEEN_BOXES and _joins(between):
            groups[-1].append(text[found.end() : end])
        else:
            groups.append([text[found.end() : end]])
            start = found.start()
        before = end + 1
    if not groups:
        return []
    denied = _denied(text, start, before) or _is_part(text[max(0, start - 40) : start], text[before:][:40])
    return [_Candidate(before, None if denied else _box_text(groups[-1], text[before : before + 20]))]


def _is_part(before: str, behind: str) -> bool:
    r"""True if what is in the box is only a part of what is written: `-\\boxed{5}`, `\\boxed{5}^2`."""
    line = before[before.rfind("\n") + 1 :]
    tail = line.rstrip(" $({[\\").removesuffix("**")
    is_bullet = tail.strip() in ("-", "+") and line[len(tail) : len(tail) + 1] == " "
    if not is_bullet and _PART_BEFORE.search(tail):
        return True
    if line.rstrip(" $(\\[")[-1:] == "{" and tail.strip():
        return True  # in the braces of something else
    if _ALTERNATIVE_BEFORE.search(tail) or _ALTERNATIVE_BEHIND.match(behind):
        return True
    is_factor = line.rstrip("$({\\")[-1:].isdigit()
    return is_factor or _PART_BEHIND.match(behind) is not None


def _box_text(items: list[str], behind: str) -> str:
    """Content of the boxes, with a percent sign behind the only one."""
    percent = re.match(r"[\s$]*(\\?%|(?:percent|pct)\b)", behind)
    if len(items) == 1 and percent:
        return f"{items[0]}\\%"
    return ", ".join(dict.fromkeys(item.strip().rstrip(",;") for item in items))


def _joins(between: str) -> bool:
    return not between.strip(" $\n") or _JOINS.search(between) is not None


def _closing(text: str, at: int) -> int:
    """Index at which the brace opened before `at` closes; the end of the line if it does not."""
    depth = 1
    for end in range(at, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return end
    return len(text)


def _denied(text: str, start: int, end: int) -> bool:
    """True if the clause around this place says no to it."""
    before = _CLAUSE_END.split(text[max(0, start - 60) : start])[-1]
    behind = text[end : end + 60].lstrip(" $)\\]}")
    return behind.startswith("?") or _is_doubtful(before, _CLAUSE_END.split(behind)[0])


def _is_doubtful(before: str, after: str) -> bool:
    """True if a clause around an answer denies it or leaves it open."""
    near = before[-_NEAR:]
    return any(_DENIAL.search(part) for part in (before, after)) or any(
        _VAGUE.search(part) for part in (near, after)
    )


def _announcements(text: str) -> list[_Candidate]:
    """Text behind the last `answer is` or `Answer:`, up to the end of its sentence."""
    matches = list(_ANNOUNCED.finditer(text))
    if not matches:
        return []
    last = matches[-1]
    if _denied(text[: last.end()], last.start(), last.end()) or not _is_asked_for(text, last):
        return [_Candidate(last.end(), None)]
    rest = _SENTENCE_END.split(text[last.end() :].strip())[0].strip()
    rest = _QUOTES.sub("", rest)
    read = rest if not _is_prose(rest) else _read_sentence(rest)
    return [_Candidate(last.end(), read)] if read else []


def _is_asked_for(text: str, announced: re.Match[str]) -> bool:
    """True if it is the answer itself that is announced, and not twice the answer, or somebody's."""
    if announced[0][:1] in "#<":
        return True
    before = _CLAUSE_END.split(text[max(0, announced.start() - 60) : announced.start()])[-1].strip(" *_#$")
    before = f"{before} " if before else ""
    return _INTRODUCED.search(before) is not None and _PART_OF_OTHER.search(before) is None


def _read_sentence(sentence: str) -> str | None:
    """The one thing that a sentence states; None where it denies it, or may mean several."""
    sentence = sentence.strip().rstrip(".")
    if sentence.endswith("?"):
        return None
    aside = _ASIDE.search(sentence)
    if aside is not None and not _DENIAL.search(aside[0]):
        sentence = sentence[: aside.start()]
    spans = list(_SPAN.finditer(sentence))
    last = _behind_last_link(sentence, spans)
    if last is not None:
        return last
    if len(sentence) > MAX_SENTENCE or _DENIAL.search(sentence) or _VAGUE.search(sentence):
        return None
    first = _AT_THE_START.match(sentence)
    if first and not _is_prose(first[1]):
        return first[1]
    if len(spans) == 1 and _is_prose(sentence[: spans[0].start()]):
        around = sentence[: spans[0].start()] + sentence[spans[0].end() :]
        return None if any(mark.isdigit() for mark in around) else spans[0][0]
    return _only_number(sentence)


def _behind_last_link(sentence: str, spans: list[re.Match[str]]) -> str | None:
    """`34` of `the largest n is 34`, unless a word of denial stands in that clause."""
    for found in reversed(list(_AT_THE_END.finditer(sentence))):
        if any(span.start() < found.start() < span.end() for span in spans):
            continue
        last = sentence[found.end() :].strip()
        clause = sentence[max(0, found.start() - 100) : found.start()]
        if _is_side(clause, found[0]) or _ANOTHER.search(clause):
            continue
        is_word = last.isalpha() and not changes_value(last)
        if not last or (_is_prose(last) and not is_word) or _is_doubtful(clause, last):
            return None
        return last
    return None


def _is_side(clause: str, link: str) -> bool:
    """True if it ends in a side of an equation, such as `so 2x`, rather than in what is asked for."""
    clause = _CLAUSE_END.split(clause)[-1]
    words = list(_WORD.finditer(clause))
    word, tail = (words[-1][0], clause[words[-1].end() :]) if words else ("", clause)
    tail = _DELIMITER.sub("", tail).strip()
    if not tail:
        return word.lower() in _CHANGED
    is_first = not word or _BEFORE_A_SIDE.fullmatch(word) is not None
    return is_first and (read_name(tail) is None or (bool(word) and link.startswith("=")))


def _only_number(sentence: str) -> str | None:
    """`12` of `there are 12 such sequences`; None where there are other numbers, or it is `12 dozen`."""
    numbers = list(_NUMBER.finditer(sentence))
    if len(numbers) != 1 or len(re.findall(r"\d[\d.,]*", sentence)) != 1:
        return None
    if not _STATED.search(sentence[: numbers[0].start()]) or _COMPARED.search(sentence, numbers[0].end()):
        return None
    behind = re.match(r"[\s-]*([A-Za-z]+)", sentence[numbers[0].end() :])
    return None if behind and changes_value(behind[1]) else numbers[0][0]


def is_negated(text: str) -> bool:
    """True if there is a word in it that says no to the rest."""
    return _DENIAL.search(text) is not None


def _is_prose(text: str) -> bool:
    """True if there are words in it besides functions, `and`, `or` and what stands in `\\text{}`."""
    return _PROSE.search(text) is not None or _IS.search(text) is not None
