"""Takes command lines apart as far as rules have to see: wrappers, shells within, their pipelines."""

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
_WRAPPERS: Final = frozenset({
    "sudo", "doas", "su", "env", "nohup", "nice", "ionice", "timeout", "stdbuf", "setsid", "time", "command",
    "exec", "builtin", "xargs", "busybox", "toybox", "strace", "ltrace", "watch", "parallel", "flock",
    "taskset", "chrt", "script", "find", "then", "else", "do", "if", "while", "until", "!",
})  # fmt: skip
_OPERATORS: Final = re.compile(r"^[;&|(){}<>]+$")
_REDIRECTIONS: Final = re.compile(r"^[0-9&]*[<>]+[&|]?$")
_SUBSTITUTIONS: Final = re.compile(r"`|\$\(|\n")
_ASSIGNMENT: Final = re.compile(r"^\w+=")
_DEEPEST: Final = 8


class UnreadableCommand(ValueError):
    """Quotes that do not close: nobody can say what would run."""


def commands_in(argv: Sequence[str], depth: int = 0) -> Iterator[tuple[str, ...]]:
    """The command itself, and each that it would start as far as its words tell.

    >>> list(commands_in(["sudo", "sh", "-c", "ls | wc -l"]))[-2:]
    [('ls',), ('wc', '-l')]

    Raises Unreadable.
    """
    words = tuple(argv)
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words:
        return
    yield words
    name = base_name(words[0])
    if depth >= _DEEPEST:
        raise UnreadableCommand("commands within commands, too deep to look into")
    if name in _WRAPPERS:
        for at in range(1, len(words)):
            if not words[at].startswith("-"):
                yield from commands_in(words[at:], depth + 1)
    for script in _scripts(name, words):
        for simple in simple_commands(script):
            yield from commands_in(simple, depth + 1)


def simple_commands(script: str) -> list[tuple[str, ...]]:
    """A shell's script cut at its operators; what is redirected to counts as an argument."""
    lexer = shlex.shlex(_SUBSTITUTIONS.sub(" ; ", script), posix=True, punctuation_chars=";&|(){}<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if _REDIRECTIONS.match(word):
                continue
            if _OPERATORS.match(word):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError as error:
        raise UnreadableCommand(str(error)) from error
    return [tuple(words) for words in found if words]


def base_name(program: str) -> str:
    """The program without its folder."""
    return PurePosixPath(program).name


def _scripts(name: str, words: tuple[str, ...]) -> Iterator[str]:
    if name == "eval":
        yield " ".join(words[1:])
    if name in SHELLS or name == "su":
        for option, script in pairwise(words):
            if re.fullmatch(r"-[a-zA-Z]*c|--command", option):
                yield script
