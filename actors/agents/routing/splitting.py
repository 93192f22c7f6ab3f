"""Several commands in one sentence, one by one.

A new command begins behind `;`, a full stop, `and`, `then` or a comma, where a verb of the language
follows at once: "load a.md and b.md as docs, then search all data" is two. Quotes keep names whole.
"""

import re
from collections.abc import Container
from typing import Final

_QUOTED: Final = r"""(?<!\w)(?:"[^"]*"|'[^']*')"""
_JOINT: Final = re.compile(
    rf"{_QUOTED}|(?P<joint>\s*(?:;|\n|[.,](?=\s))\s*(?:(?:and|then|also|finally)\b\s*,?\s*)*"
    r"|\s+(?:(?:and|then|also|finally)\b\s*,?\s*)+)(?P<please>(?:please\s+)?)(?P<next>[\w-]*)",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(r"[.:/]\S")
_END: Final = " \t\r\n;,"
_OPENING: Final = re.compile(r"^(?:\s*(?:first|and|then|also|finally)\b\s*,?)+\s+", re.IGNORECASE)


def commands_in(text: str, verbs: Container[str]) -> tuple[str, ...]:
    """The commands of a text, in order; none is empty.

    >>> commands_in("load a.md and b.md as docs, then get a.md from docs", {"load", "get"})
    ('load a.md and b.md as docs', 'get a.md from docs')
    """
    commands, start = [], 0
    for match in _JOINT.finditer(text):
        joint = match["joint"]
        if joint is None:
            continue
        whole = not _GOES_ON.match(text, match.end())  # "read.md" is no verb
        if ";" in joint or "\n" in joint or (whole and match["next"].lower() in verbs):
            commands.append(text[start : match.start()])
            start = match.start("please")
    commands.append(text[start:])
    trimmed = (_OPENING.sub("", command).strip(_END) for command in commands)
    return tuple(command for command in trimmed if command)
