"""Safety rules: commands and files that an agent is refused before any sandbox is asked.

The sandbox is the wall: a program can say in a thousand ways what these rules see in one. They are there
so that an agent which means harm by mistake is told so, and why.

>>> CommandPolicy.load().check_command(["sh", "-c", "ls; rm -rf /"])      # doctest: +SKIP
AccessRefused: rm -rf / is refused (remove-roots): it removes a whole tree that is not this task's
"""

import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from ...configs.load import load_section
from ...configs.sandbox import SHIPPED_RULES, CommandRule, PathRule, SafetyRuleSettings
from .errors import AccessRefused

_SHOWN_CHARACTERS: Final = 200
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
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


class CommandPolicy:
    """The shipped rules and one's own."""

    def __init__(self, settings: SafetyRuleSettings) -> None:
        self._commands = [(rule, _compiled(rule)) for rule in settings.commands]
        self._paths = [(rule, _glob(rule.pattern)) for rule in settings.paths]

    def __repr__(self) -> str:
        return f"<CommandPolicy {len(self._commands)} commands, {len(self._paths)} paths>"

    @classmethod
    def load(cls, path: Path | None = None) -> "CommandPolicy":
        """The shipped rules, and those of a YAML file. Raises SettingsError, which names file and key."""
        shipped = load_section(SHIPPED_RULES, SafetyRuleSettings)
        if path is None:
            return cls(shipped)
        own = load_section(path, SafetyRuleSettings)
        return cls(
            SafetyRuleSettings(commands=shipped.commands + own.commands, paths=shipped.paths + own.paths)
        )

    def check_command(self, argv: Sequence[str]) -> None:
        """Look at a command, and at those that it names. Raises AccessRefused with the reason."""
        try:
            found = list(commands_in(argv))
        except UnreadableCommand as error:
            raise AccessRefused(f"{_shown(argv)} is refused: it cannot be read ({error})") from error
        for words in found:
            self._check_words(words)
        line = " ".join(argv)
        for rule, (program, arguments) in self._commands:
            if program is None and arguments.search(line):
                raise _refusal(_shown(argv), rule)

    def check_path(self, path: str | os.PathLike[str]) -> None:
        """Look at a path and at where its links lead. Raises AccessRefused with the reason."""
        text = os.fspath(path)
        for candidate in _candidates(text):
            for rule, pattern in self._paths:
                if pattern.fullmatch(candidate):
                    raise _refusal(text, rule)

    def _check_words(self, words: tuple[str, ...]) -> None:
        name = _base_name(words[0])
        tidied = " ".join(_tidied(word) for word in words[1:])
        for rule, (program, arguments) in self._commands:
            if program is not None and program.fullmatch(name) and arguments.search(tidied):
                raise _refusal(_shown(words), rule)
        for word in words:
            for part in {word, word.partition("=")[2]}:
                if "/" in part or part.startswith("~"):
                    self.check_path(part)


def _compiled(rule: CommandRule) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    return re.compile(rule.program) if rule.program else None, re.compile(rule.arguments)


def _glob(pattern: str) -> re.Pattern[str]:
    """A path pattern with `*`, `**` and `{a,b}` as a regular expression."""
    parts = re.split(r"(\*\*/|\*\*|\*|\{[^{}]*\})", pattern)
    return re.compile("".join(_glob_part(part) for part in parts))


def _glob_part(part: str) -> str:
    if part.startswith("{"):
        return f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
    return {"**/": "/(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part))


def _candidates(path: str) -> Iterator[str]:
    """What a path may mean: as written, in the user's home, and where links lead."""
    expanded = os.path.expanduser(path)
    for each in {path, expanded}:
        if posixpath.isabs(each):
            yield re.sub("^/+", "/", posixpath.normpath(each))
        else:
            # It may be relative to anywhere: what climbs out is taken from the root.
            normal = posixpath.normpath(each)
            climbed = re.sub(r"^(\.\./)+", "/", normal)
            yield climbed if climbed != normal else f"/./{normal}"
    if posixpath.isabs(expanded):
        yield os.path.realpath(expanded)


def _tidied(word: str) -> str:
    """A path without what hides it: `/./`, `//`, `/x/..`."""
    if not word.startswith("/"):
        return word
    return re.sub("^/+", "/", posixpath.normpath(word))


def _refusal(what: str, rule: CommandRule | PathRule) -> AccessRefused:
    return AccessRefused(f"{what} is refused ({rule.name}): {rule.reason}")


def _shown(words: Sequence[str]) -> str:
    line = " ".join(words)
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"


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
    name = _base_name(words[0])
    if depth >= _DEEPEST:
        raise UnreadableCommand("commands within commands, too deep to look into")
    if name in _WRAPPERS:
        for at in range(1, len(words)):
            if not words[at].startswith("-"):
                yield from commands_in(words[at:], depth + 1)
    for script in _scripts(name, words):
        for simple in _simple_commands(script):
            yield from commands_in(simple, depth + 1)


def _simple_commands(script: str) -> list[tuple[str, ...]]:
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


def _base_name(program: str) -> str:
    """The program without its folder."""
    return PurePosixPath(program).name


def _scripts(name: str, words: tuple[str, ...]) -> Iterator[str]:
    if name == "eval":
        yield " ".join(words[1:])
    if name in _SHELLS or name == "su":
        for option, script in pairwise(words):
            if re.fullmatch(r"-[a-zA-Z]*c|--command", option):
                yield script
