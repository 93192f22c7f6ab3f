"""Seccomp filters: their rules, the one assembler, and putting a process behind one.

A call made through another architecture's table kills the process. Numbers come from the kernel's
`unistd_64.h` (x86_64) and `asm-generic/unistd.h` (aarch64); the program's format from
Documentation/userspace-api/seccomp_filter.rst. Standard library only.
"""

import ctypes
import platform
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from . import process_attributes

SyscallNumbers = tuple[int | None, int | None]
"""Of a system call on x86_64 and on aarch64."""

ALLOW: Final = 0x7FFF0000
EPERM: Final = 0x00050001
"""Python raises PermissionError."""
ENOSYS: Final = 0x00050026
FAKED: Final = 0x00050000
"""Answered with success, and not done."""
_KILL_PROCESS: Final = 0x80000000

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}
_LOAD, _JUMP, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_MOST_COMPARED: Final = 200
"""A jump spans at most 255 instructions."""

Instruction = tuple[int, int, int, int]
"""Operation, where to go on if it holds and if not (instructions passed over), and its operand."""


class SyscallRule(NamedTuple):
    """The same answer to several system calls."""

    calls: Sequence[SyscallNumbers]
    answer: int


class ArgumentRule(NamedTuple):
    """A system call whose answer depends on the lower half of one of its arguments."""

    call: SyscallNumbers
    argument: int
    values: tuple[int, ...]
    passed: int
    """The answer where the test holds for one of the values."""
    failed: int
    any_bit: bool = False
    """The test: that any bit of a value is set, rather than that the argument is the value."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Filter(NamedTuple):
    """A filter ready to install."""

    address: int
    """Where `program` lies."""
    program: _Program
    instructions: bytes
    """What `program` points to (`struct sock_filter`, 8 bytes each)."""


def build_filter(
    rules: Iterable[SyscallRule | ArgumentRule], otherwise: int, last_known: int | None = None
) -> Filter | None:
    """The filter for this machine; None where there is none to build (not Linux, other CPUs).

    Rules are tried in their order; `otherwise` answers a call that none speaks of. Calls of a number above
    `last_known` do not exist.
    """
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _ARCHITECTURES:
        return None
    instructions = assemble(machine, rules, otherwise, last_known)
    program = _Program(len(instructions) // 8, instructions)
    return Filter(ctypes.addressof(program), program, instructions)


def install(filter_: Filter) -> None:
    """Put this process behind the filter, for good. Raises OSError where the kernel refuses."""
    process_attributes.set_seccomp_filter(filter_.address)


def assemble(
    machine: str, rules: Iterable[SyscallRule | ArgumentRule], otherwise: int, last_known: int | None
) -> bytes:
    """The filter's instructions for one kind of CPU."""
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if last_known is not None:  # x32's numbers are above it, too
        code += [(_GREATER, 0, 1, last_known), (_RETURN, 0, 0, ENOSYS)]
    for rule in rules:
        if isinstance(rule, ArgumentRule):
            code += _argument_test(rule, rule.call[_COLUMN[machine]])
            continue
        numbers = [number for call in rule.calls if (number := call[_COLUMN[machine]]) is not None]
        for start in range(0, len(numbers), _MOST_COMPARED):
            code += _comparisons(numbers[start : start + _MOST_COMPARED], rule.answer)
    code.append((_RETURN, 0, 0, otherwise))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _comparisons(numbers: Sequence[int], answer: int) -> list[Instruction]:
    """One comparison for each number, then the answer that they jump to, passed over by all else."""
    compared = [(_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    return [*compared, (_JUMP, 0, 0, 1), (_RETURN, 0, 0, answer)]


def _argument_test(rule: ArgumentRule, number: int | None) -> list[Instruction]:
    if number is None:
        return []
    operation = _ANY_BIT if rule.any_bit else _EQUAL
    tests = [(operation, len(rule.values) - at, 0, value) for at, value in enumerate(rule.values)]
    body = [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * rule.argument),
        *tests,
        (_RETURN, 0, 0, rule.failed),
        (_RETURN, 0, 0, rule.passed),
    ]
    return [(_EQUAL, 0, len(body), number), *body]
