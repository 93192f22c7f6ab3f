"""The seccomp filters, by what they answer: run here by an interpreter, for both kinds of CPU."""

import platform
import struct

import pytest

from agentfactory.runtime.sandbox.inside import seccomp_filters
from agentfactory.runtime.sandbox.inside.seccomp import ALLOW, ENOSYS, EPERM, FAKED, Filter

KILL_PROCESS = 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = {
    "read": (0, 63), "openat": (257, 56), "ptrace": (101, 117), "clone": (56, 220), "clone3": (435, 435),
    "socket": (41, 198), "kill": (62, 129), "fchmod": (91, 52), "setsid": (112, 157),
}  # fmt: skip


def answer(built: Filter | None, machine: str, call: str | int, *arguments: int, as_on: str = "") -> int:
    assert built is not None
    number = call if isinstance(call, int) else CALLS[call][list(ARCHITECTURES).index(machine)]
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, ARCHITECTURES[as_on or machine], 0, *padded)
    at = loaded = 0
    while True:
        operation, holds, fails, operand = struct.unpack_from("=HBBI", built.instructions, 8 * at)
        at += 1
        match operation:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, operand)
            case 0x06:
                return int(operand)
            case 0x05:
                at += operand
            case 0x15:
                at += holds if loaded == operand else fails
            case 0x25:
                at += holds if loaded > operand else fails
            case 0x45:
                at += holds if loaded & operand else fails


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(platform, "machine", lambda: request.param)
    return str(request.param)


def test_python_calls_may_compute_and_nothing_else(machine: str) -> None:
    built = seccomp_filters.python_call_filter(reads=False)
    assert answer(built, machine, "read") == ALLOW
    for call in ("openat", "socket", "kill", "clone", 0x40000000):
        assert answer(built, machine, call) == EPERM


def test_jobs_that_read_open_files_but_not_for_writing(machine: str) -> None:
    built = seccomp_filters.python_call_filter(reads=True)
    assert answer(built, machine, "openat", 0, 0, 0) == ALLOW
    assert answer(built, machine, "openat", 0, 0, 1) == EPERM  # O_WRONLY
    assert answer(built, machine, "openat", 0, 0, 0o100) == EPERM  # O_CREAT


def test_programs_may_do_what_does_not_reach_past_their_sandbox(machine: str) -> None:
    own, shared = (seccomp_filters.program_filter(scoped=scoped, signals=False) for scoped in (True, False))
    for built in (own, shared):
        assert answer(built, machine, "openat", 0, 0, 1) == ALLOW
        assert answer(built, machine, "ptrace") == EPERM
        assert answer(built, machine, "clone", 17) == ALLOW
        assert answer(built, machine, "clone", 0x10000000) == EPERM  # CLONE_NEWUSER
        assert answer(built, machine, "clone3") == ENOSYS
        assert answer(built, machine, 470) == ENOSYS
    assert [answer(built, machine, "socket", 2) for built in (own, shared)] == [ALLOW, EPERM]
    assert [answer(built, machine, "kill") for built in (own, shared)] == [ALLOW, EPERM]
    assert [answer(built, machine, "setsid") for built in (own, shared)] == [ALLOW, EPERM]
    assert [answer(built, machine, "fchmod") for built in (own, shared)] == [ALLOW, FAKED]


def test_a_call_through_another_architecture_s_table_kills(machine: str) -> None:
    (other,) = set(ARCHITECTURES) - {machine}
    for built in (
        seccomp_filters.python_call_filter(reads=True),
        seccomp_filters.program_filter(scoped=True),
    ):
        assert answer(built, machine, "read", as_on=other) == KILL_PROCESS


def test_there_is_no_filter_for_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert seccomp_filters.python_call_filter(reads=False) is None
    assert seccomp_filters.program_filter(scoped=True) is None
