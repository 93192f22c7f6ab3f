"""Sources of input lines: a person at a terminal, or a pipe."""

import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..configs.errors import CannotWrite
from ..runtime.daemon_thread import in_daemon_thread
from .commands import WORDS

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

HISTORY_FILE: Final = "prompt_history"
VERBS: Final = ("load", "ingest", "query", "search", "find", "get", "retrieve", "prune", "destroy", "list")
URIS: Final = ("file::", "folder::", "hdf5::", "mem::")


async def read_pipe() -> AsyncGenerator[str, None]:
    """Lines of standard input, as long as there are any; what is no text is replaced."""
    while line := await in_daemon_thread(sys.stdin.buffer.readline):
        yield line.decode(errors="replace")


async def read_terminal(folder: Path, names: Callable[[], Iterable[str]]) -> AsyncGenerator[str, None]:
    """Lines that a person types, with history, completion and a coloured prompt; until the end of input.

    The history lies in `folder`. Ctrl-C drops the line. Raises CannotWrite.
    """
    from prompt_toolkit.formatted_text import FormattedText

    session = _session(folder, names)
    while True:
        try:
            yield await session.prompt_async(FormattedText([("ansigreen bold", "agent> ")]))
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _session(folder: Path, names: Callable[[], Iterable[str]]) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import DynamicCompleter, WordCompleter
    from prompt_toolkit.history import FileHistory

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HISTORY_FILE).touch()
    except OSError as error:
        raise CannotWrite(
            f"{folder}: cannot be written ({error.strerror}); the history lies there"
        ) from error

    def words() -> WordCompleter:
        return WordCompleter([*WORDS, *VERBS, *URIS, *names()], ignore_case=True)

    return PromptSession(
        history=FileHistory(str(folder / HISTORY_FILE)),
        completer=DynamicCompleter(words),
        complete_while_typing=False,
    )
