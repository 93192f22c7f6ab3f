"""Python sessions: what is kept from call to call, and what ends one."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.session import MAX_CODE_CHARACTERS, PythonSession

GONE = "the session is gone, and the next call begins a new one"


@pytest.fixture
async def session(left_behind: Callable[[], list[int]]) -> AsyncIterator[PythonSession]:
    settings = CommandSandboxSettings(allow_weak=True, timeout_s=20.0, output_bytes=1000, memory_mb=200)
    with tempfile.TemporaryDirectory(prefix="agentfactory-session-", dir="/tmp") as folder:
        session = PythonSession(settings, Path(folder))
        await session.start()
        yield session
        await session.aclose()
    assert left_behind() == []


async def test_names_modules_and_files_are_kept(session: PythonSession) -> None:
    assert (await session.run("import math\nx = 2\nopen('f', 'w').write('kept') and None")).ok
    assert (await session.run("def f(n): return n * x")).ok
    assert (await session.run("f(math.floor(2.5)), open('f').read()")).output == "(4, 'kept')"
    assert (await session.run("_[0]")).output == "4"
    assert session.starts == 1


async def test_it_prints_like_a_cell(session: PythonSession) -> None:
    assert (await session.run("print('a')\n5")).output == "a"
    assert (await session.run("x = 1")).output == ""
    assert (await session.run("import sys; print('e', file=sys.stderr)")).output == "e"
    assert (await session.run("import os; _ = os.system('echo from below')")).output == "from below"


async def test_a_cell_that_leaves_has_printed_and_an_empty_one_ends_nothing(session: PythonSession) -> None:
    left = await session.run("x = 1\nprint('before')\nexit()")
    assert (left.ok, left.output) == (True, "before")
    empty = await session.run("")
    assert (empty.ok, empty.output) == (True, "")
    assert (await session.run("x")).output == "1"
    assert session.starts == 1


async def test_an_error_keeps_the_session(session: PythonSession) -> None:
    await session.run("x = 1")
    failed = await session.run("x = 2\n1/0")
    assert (failed.output, failed.failure) == ("Error: ZeroDivisionError: division by zero", "error")
    assert (await session.run("exit(3)")).output == "Error: SystemExit: 3"
    assert (await session.run("bytearray(10**10)")).failure == "memory"
    assert (await session.run("x")).output == "2"


@pytest.mark.parametrize(
    ("code", "failure", "line"),
    [
        ("while True: pass", "timeout", f"Error: the call timed out; {GONE}"),
        ("import os; os._exit(0)", "crashed", f"Error: the process ended; {GONE}"),
        ("import os; os.kill(os.getpid(), 9)", "crashed", f"Error: the process ended; {GONE}"),
        ("while True: print('x' * 100)", "output", f"Error: too much output; {GONE}"),
    ],
)
async def test_a_broken_limit_costs_the_session_and_says_so(
    session: PythonSession, code: str, failure: str, line: str
) -> None:
    await session.run("x = 1")
    result = await session.run(code, timeout_s=1.0)
    assert (result.failure, result.output.splitlines()[-1]) == (failure, line)
    assert (await session.run("x")).output == "Error: NameError: name 'x' is not defined"
    assert session.starts == 2


async def worker_of(session: PythonSession) -> int:
    """The process that runs its code, as it is numbered here."""
    await session.run("1")
    assert session._open is not None
    return session._open.worker._pid


async def test_a_session_that_ended_by_itself_is_told_at_the_next_call(session: PythonSession) -> None:
    os.kill(await worker_of(session), signal.SIGKILL)
    assert session._open is not None
    await session._open.worker.ended.wait()
    result = await session.run("1 + 1")
    assert result.output == "(the session had ended by itself; this is a new one)\n2"


async def test_memory_counts_with_what_the_session_started(session: PythonSession) -> None:
    code = (
        "import os, time\nfor _ in range(4):\n"
        "    if os.fork() == 0: b = os.urandom(2**20) * 80; time.sleep(600)\ntime.sleep(600)"
    )
    result = await session.run(code)
    assert (result.failure, result.output) == ("memory", f"Error: out of memory; {GONE}")


async def test_code_cannot_answer_for_the_next_call(session: PythonSession) -> None:
    forged = "import os, gc\nos.write(1, b'\\n\\0' + b'0' * 32 + b' ok\\n')\nprint('real')"
    assert "real" in (await session.run(forged)).output
    assert (await session.run("6 * 7")).output == "42"


async def test_calls_at_the_same_time_run_one_after_the_other(session: PythonSession) -> None:
    await session.run("n = 0")
    await asyncio.gather(*(session.run("n += 1") for _ in range(5)))
    assert (await session.run("n")).output == "5"


async def test_a_cancelled_call_ends_the_session(
    session: PythonSession, left_behind: Callable[[], list[int]]
) -> None:
    await session.run("x = 1")
    task = asyncio.create_task(session.run("while True: pass"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_behind() == []
    assert (await session.run("'x' in globals()")).output == "False"


async def test_its_environment_holds_no_secrets(
    session: PythonSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    found = await session.run("import os; dict(os.environ)")
    assert "'HOME'" in found.output
    assert "hunter2" not in found.output


async def test_code_that_is_too_long_is_an_error(session: PythonSession) -> None:
    assert (await session.run("#" * (MAX_CODE_CHARACTERS + 1))).failure == "error"
