"""Attempts to get out of a sandbox, read from `escape_attempts.txt`, and what they are written with.

Each is Python that knows all about the world outside (`T`). It succeeds by doing something outside that can
be seen there, by printing a secret, or by printing ESCAPED once it holds something that it must not have.
A `#:` line names it; `[alone]` stands behind those that must not be let loose without a sandbox, and
`[programs]` behind those that need programs besides Python.
"""

import re
from pathlib import Path
from typing import NamedTuple


class Attempt(NamedTuple):
    """One way out."""

    name: str
    code: str
    control: bool
    """Whether it may be tried without a sandbox, to see that the same look then sees it."""
    commands_only: bool
    """Whether it needs programs besides Python."""


def _read(text: str) -> list[Attempt]:
    header = r"^#: (?P<name>[^\[\n]+?)(?: \[(?P<flags>[^\]\n]*)\])?\n"
    found = re.finditer(header + r"(?P<code>.*?)(?=^#: |\Z)", text, re.MULTILINE | re.DOTALL)
    attempts = []
    for each in found:
        flags = each["flags"] or ""
        attempts.append(
            Attempt(each["name"], each["code"].strip(), "alone" not in flags, "programs" in flags)
        )
    return attempts


PRELUDE = """
import random
os = random._os; sys = os.sys
find = sys.modules["builtins"].__import__
def module(name):
    try:
        return sys.modules.get(name) or find(name)
    except BaseException as error:
        print(name, "cannot be had:", error)
ctypes, socket, resource, struct, signal, time, fcntl, mmap, array, threading = map(module, (
    "ctypes", "socket", "resource", "struct", "signal", "time", "fcntl", "mmap", "array", "threading"))
if ctypes:
    libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
    def call(number, *arguments):
        words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
        return libc.syscall(ctypes.c_long(number), *words)
def got(result, what):
    print(what, result)
    if result >= 0: print("ESCAPED", what)
def read(path):
    with open(path) as file: print(file.read())
def spawn(*argv):
    pid = os.fork()
    if pid == 0:
        try: os.execvp(argv[0], argv)
        finally: os._exit(1)
    return pid
"""
"""What attempts call by name; modules are had past the list of allowed imports where there is one."""

ATTEMPTS = _read((Path(__file__).parent / "escape_attempts.txt").read_text(encoding="utf-8"))
