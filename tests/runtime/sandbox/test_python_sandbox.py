"""The python sandbox: what works, and every way in which a call can go wrong."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentfactory.configs.roles import SandboxSettings
from agentfactory.messages.turns import ToolResult
from agentfactory.runtime.sandbox import fork_server_client
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.inside.protocol import Setup
from agentfactory.runtime.sandbox.python import PythonSandbox, isolation

LIMIT_S = 180.0
DEADLINE_S = 10.0
"""Of the calls that end by themselves."""


@pytest.fixture
async def sandbox() -> AsyncIterator[PythonSandbox]:
    sandbox = PythonSandbox(SandboxSettings(timeout_s=DEADLINE_S, output_bytes=1000))
    async with asyncio.timeout(LIMIT_S):
        await sandbox.start()
    try:
        yield sandbox
    finally:
        async with asyncio.timeout(LIMIT_S):
            await sandbox.aclose()


async def run(sandbox: PythonSandbox, code: str, timeout_s: float | None = None) -> ToolResult:
    async with asyncio.timeout(LIMIT_S):
        result = await sandbox.run(code, timeout_s)
    assert result.ok == (result.failure == "")
    return result


def server_pids(sandbox: PythonSandbox) -> tuple[int, int]:
    """The launcher and, below it, the warm process."""
    connection = sandbox._server._connection
    assert connection is not None
    launcher = connection._process.pid
    children = children_of(launcher)
    return launcher, children[0] if children else launcher


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the kernel does, and tells nobody about."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def until_dead(*pids: int) -> None:
    await until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(12*34)", "408"),
        ("1+2", "3"),
        ("print(1+2)", "3"),
        ("x = 2\nx ** 10", "1024"),
        ("x = 5", ""),
        ("", ""),
        ("None", ""),
        ("print(1)\n2", "1"),
        ("print('a\\n')", "a"),
        ("'\\N{BULLET}'", "'•'"),
        ("print('\\ud800')", "\\ud800"),
        ("import math\nmath.factorial(5)", "120"),
        ("from fractions import Fraction as F\nF(1, 3) + F(1, 6)", "Fraction(1, 2)"),
        ("import collections.abc\ncollections.abc.Sized.__name__", "'Sized'"),
        ("import datetime\ndatetime.datetime.strptime('2020', '%Y').year", "2020"),
        ("def f(n): return 1 if n < 2 else n * f(n - 1)\nf(6)", "720"),
        ("raise SystemExit", ""),
    ],
)
async def test_code_runs_like_a_cell_of_a_repl(sandbox: PythonSandbox, code: str, output: str) -> None:
    result = await run(sandbox, code)
    assert (result.output, result.failure) == (output, "")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("1/0", "Error: ZeroDivisionError: division by zero"),
        ("print(7)\n1/0", "7\nError: ZeroDivisionError: division by zero"),
        ("print(7, end='')\n1/0", "7\nError: ZeroDivisionError: division by zero"),
        ("1 +", "Error: SyntaxError: invalid syntax"),
        ("nope", "Error: NameError: name 'nope' is not defined"),
        ("assert False", "Error: AssertionError"),
        ("raise SystemExit(3)", "Error: SystemExit: 3"),
        ("def f(): f()\nf()", "Error: RecursionError: maximum recursion depth exceeded"),
        ("input()", "Error: EOFError: EOF when reading a line"),
        ("class E(Exception):\n def __str__(self): raise self\nraise E", "Error: E"),
    ],
)
async def test_an_error_is_told_in_one_line(sandbox: PythonSandbox, code: str, output: str) -> None:
    result = await run(sandbox, code)
    assert (result.output, result.failure) == (output, "error")


async def test_a_number_too_long_to_print_is_an_error_and_not_a_hang(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, "10**5000")
    assert result.failure == "error"
    assert result.output.startswith("Error: ValueError: Exceeds the limit")


async def test_each_call_starts_anew(sandbox: PythonSandbox) -> None:
    await run(sandbox, "import math\nx = 1\nmath.pi = 3")
    assert (await run(sandbox, "x")).failure == "error"
    assert (await run(sandbox, "import math\nmath.pi > 3")).output == "True"


async def test_random_numbers_differ_between_calls(sandbox: PythonSandbox) -> None:
    code = "import random\nrandom.getrandbits(64)"
    assert (await run(sandbox, code)).output != (await run(sandbox, code)).output


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True:\n try:\n  while True: pass\n except BaseException: pass",
        "import random\nwhile True:\n try: random._os.read(0, 1)\n except BaseException: pass",
        "9**9**9**9",
    ],
)
async def test_a_call_that_does_not_end_is_stopped_at_its_deadline(sandbox: PythonSandbox, code: str) -> None:
    result = await run(sandbox, code, timeout_s=0.4)
    assert result.failure in ("timeout", "memory")
    assert result.duration_s < DEADLINE_S


async def test_what_was_printed_before_the_deadline_is_kept(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, "print('begun', flush=True)\nwhile True: pass", timeout_s=1.0)
    assert (result.output, result.failure) == ("begun\nError: the tool timed out", "timeout")


async def test_a_call_can_shorten_its_deadline_but_not_stretch_it(sandbox: PythonSandbox) -> None:
    assert (await run(sandbox, "while True: pass", timeout_s=0.05)).duration_s < DEADLINE_S
    short = PythonSandbox(SandboxSettings(timeout_s=0.05))
    assert (await run(short, "while True: pass", timeout_s=LIMIT_S)).duration_s < DEADLINE_S
    await short.aclose()


@pytest.mark.parametrize("code", ["x = [0] * 10**9", "x = []\nwhile True: x.append(bytearray(10**6))"])
async def test_a_call_that_eats_memory_is_told_so(code: str) -> None:
    sandbox = PythonSandbox(SandboxSettings(memory_mb=32, timeout_s=20.0))
    result = await run(sandbox, code)
    await sandbox.aclose()
    assert (result.output, result.failure) == ("Error: MemoryError", "memory")


async def test_a_flood_of_output_is_cut_and_its_head_is_given(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, "while True: print('x' * 10**6)")
    assert result.failure == "output"
    assert result.output == "x" * 1000 + "\nError: too much output"


async def test_output_of_exactly_the_limit_is_whole(sandbox: PythonSandbox) -> None:
    assert (await run(sandbox, "print('x' * 1000, end='')")).output == "x" * 1000
    assert (await run(sandbox, "print('x' * 1001, end='')")).failure == "output"


async def test_a_module_off_the_list_is_refused_with_the_list(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, "import os")
    assert result.failure == "forbidden"
    assert "Error: ImportError: os cannot be imported here" in result.output
    assert "fractions" in result.output


OS = "import random\nos = random._os\nsys = os.sys\n"
CTYPES = OS + "ctypes = sys.modules['ctypes']\n"


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/shadow').read()",
        "open('/etc/hostname').read()",
        "open('/tmp/agentfactory-was-here', 'w')",
        OS + "os.fork()",
        OS + "os.setsid()",
        OS + "os.kill(os.getppid(), 9)",
        OS + "os.kill(-1, 9)",
        OS + "os.killpg(0, 9)",
        OS + "os.unlink('/tmp')",
        OS + "os.rename('/tmp', '/tmp2')",
        OS + "os.chmod('/tmp', 0o777)",
        OS + "os.listdir('/')",
        OS + "os.execv('/bin/sh', ['sh'])",
        OS + "os.memfd_create('x')",
        OS + "os.pipe()",
        OS + "sys.modules['_socket'].socket()",
    ],
)
async def test_what_is_not_computing_is_refused_by_the_kernel(sandbox: PythonSandbox, code: str) -> None:
    result = await run(sandbox, code)
    assert result.failure == "forbidden", result
    assert "PermissionError: [Errno 1] Operation not permitted" in result.output
    assert not os.path.exists("/tmp/agentfactory-was-here")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("socket(2, 1, 0)", -1),
        ("socket(1, 1, 0)", -1),
        ("ptrace(16, 1, 0, 0)", -1),
        ("unshare(0x10000000)", -1),
        ("mount(b'a', b'/', b'tmpfs', 0, 0)", -1),
        ("prctl(22, 0, 0, 0, 0)", -1),
        ("prctl(1, 0, 0, 0, 0)", -1),
        ("setuid(0)", -1),
        ("fork()", -1),
        ("getuid() == 0", False),
    ],
)
async def test_ctypes_meets_the_same_wall(sandbox: PythonSandbox, call: str, answer: object) -> None:
    if "getuid" in call and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    result = await run(sandbox, CTYPES + f"libc = ctypes.CDLL(None)\nlibc.{call}")
    assert result.output == str(answer), result


async def test_a_daemon_cannot_be_left_behind(sandbox: PythonSandbox) -> None:
    code = OS + "for start in (os.fork, os.forkpty):\n try: start()\n except OSError as e: print(e.errno)"
    result = await run(sandbox, code)
    assert result.output == "1\n1"
    _, fork_server = server_pids(sandbox)
    assert children_of(fork_server) == []


async def test_threads_cannot_be_started(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, OS + "sys.modules['_thread'].start_new_thread(print, ())")
    assert result.output == "Error: RuntimeError: can't start new thread"


@pytest.mark.parametrize(
    "code",
    [
        OS + "os._exit(0)",
        OS + "os._exit(70)",
        OS + "os.abort()",
        CTYPES + "ctypes.string_at(0)",
    ],
)
async def test_a_call_that_ends_its_process_counts_as_crashed(sandbox: PythonSandbox, code: str) -> None:
    result = await run(sandbox, code)
    assert (result.output, result.failure) == ("Error: the tool failed", "crashed")
    assert (await run(sandbox, "1+2")).output == "3"
    assert sandbox._server.starts == 1


async def test_code_that_closes_its_output_is_harmless(sandbox: PythonSandbox) -> None:
    result = await run(sandbox, OS + "sys.stdout.close()\nos.close(1)")
    assert result.failure in ("error", "crashed")
    assert (await run(sandbox, "1+2")).output == "3"


async def test_code_that_is_too_long_is_an_error(sandbox: PythonSandbox) -> None:
    assert (await run(sandbox, "#" * 200_000)).failure == "error"


async def test_the_environment_is_empty_and_no_descriptor_is_left(sandbox: PythonSandbox) -> None:
    assert os.environ
    assert (await run(sandbox, OS + "dict(os.environ)")).output in ("{}", "{'LC_CTYPE': 'C.UTF-8'}")
    code = OS + (
        "found = []\n"
        "for fd in range(300):\n"
        "    try: os.lseek(fd, 0, 1); found.append(fd)\n"
        "    except OSError as e: found += [fd] if e.errno == 29 else []\n"  # ESPIPE: open, a pipe
        "found"
    )
    assert (await run(sandbox, code)).output == "[0, 1, 2]"


async def test_calls_run_side_by_side_up_to_the_limit(sandbox: PythonSandbox) -> None:
    async with asyncio.timeout(LIMIT_S):
        loops = [asyncio.create_task(sandbox.run("while True: pass", DEADLINE_S / 2)) for _ in range(3)]
        quick = await sandbox.run("1+2")
        assert quick.output == "3"
        assert not any(loop.done() for loop in loops)
        assert {result.failure for result in await asyncio.gather(*loops)} == {"timeout"}


async def test_calls_beyond_the_limit_wait_their_turn() -> None:
    sandbox = PythonSandbox(SandboxSettings(max_parallel=2))
    async with asyncio.timeout(LIMIT_S):
        results = await asyncio.gather(*(sandbox.run(f"{n}*2") for n in range(40)))
        await sandbox.aclose()
    assert [int(result.output) for result in results] == [n * 2 for n in range(40)]


async def test_a_cancelled_call_kills_its_child(sandbox: PythonSandbox) -> None:
    _, fork_server = server_pids(sandbox)
    task = asyncio.create_task(sandbox.run("while True: pass"))
    await until(lambda: children_of(fork_server) != [])
    async with asyncio.timeout(LIMIT_S):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert repr(sandbox) == "<PythonSandbox <ForkServerClient up, 0 running, 1 starts>>"
        assert (await sandbox.run("1+2")).output == "3"
    await until(lambda: children_of(fork_server) == [])


async def test_a_dead_server_fails_its_calls_and_is_started_again(sandbox: PythonSandbox) -> None:
    launcher, fork_server = server_pids(sandbox)
    task = asyncio.create_task(sandbox.run("while True: pass"))
    await asyncio.sleep(0)
    os.kill(fork_server, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert (await task).failure == "crashed"
    assert (await run(sandbox, "1+2")).output == "3"
    assert sandbox._server.starts == 2
    await until_dead(launcher, fork_server)


async def test_a_stuck_server_is_killed_with_its_children_and_replaced(
    sandbox: PythonSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentfactory.runtime.sandbox.fork_server_client.GRACE_S", 0.2)
    launcher, fork_server = server_pids(sandbox)
    os.kill(fork_server, signal.SIGSTOP)
    result = await run(sandbox, "1+2", timeout_s=0.1)
    assert (result.output, result.failure) == ("Error: the tool failed", "crashed")
    assert (await run(sandbox, "1+2")).output == "3"
    await until_dead(launcher, fork_server)


async def test_closing_leaves_no_process_and_later_calls_are_answered(sandbox: PythonSandbox) -> None:
    pids = server_pids(sandbox)
    task = asyncio.create_task(sandbox.run("while True: pass"))
    await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT_S):
        await sandbox.aclose()
        assert (await task).failure == "crashed"
        assert (await sandbox.run("1+2")).failure == "crashed"
        await sandbox.aclose()
    await until_dead(*pids)


async def begin_start(sandbox: PythonSandbox) -> None:
    await sandbox.start()


async def begin_call(sandbox: PythonSandbox) -> None:
    await sandbox.run("while True: pass")


async def begin_close(sandbox: PythonSandbox) -> None:
    await sandbox.start()
    await sandbox.aclose()


@pytest.mark.parametrize("cancellations", [1, 2])
@pytest.mark.parametrize("begin", [begin_start, begin_call, begin_close])
async def test_an_owner_that_dies_while_it_waits_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[PythonSandbox], Awaitable[None]],
    cancellations: int,
) -> None:
    """It is cancelled once or twice at the point where it waits for the server, and closes nothing itself."""
    connections: list[fork_server_client._Connection] = []
    reached = asyncio.Event()

    class Watched(fork_server_client._Connection):
        async def _greet(self, setup: Setup) -> None:
            connections.append(self)
            if begin is begin_start:
                reached.set()
            await super()._greet(setup)

        async def call(self, job: fork_server_client._Job, *given: Any) -> fork_server_client.Outcome:
            reached.set()
            return await super().call(job, *given)

        async def aclose(self) -> None:
            reached.set()
            await super().aclose()

    monkeypatch.setattr(fork_server_client, "_Connection", Watched)
    sandbox = PythonSandbox(SandboxSettings())
    async with asyncio.timeout(LIMIT_S):
        owner = asyncio.ensure_future(begin(sandbox))
        await reached.wait()
        for _ in range(cancellations):
            owner.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await owner
        if begin is begin_call:
            closing = asyncio.ensure_future(sandbox.aclose())
            await asyncio.sleep(0)
            closing.cancel()
    (connection,) = connections
    assert connection._control.fileno() == -1
    assert connection._complaints.closed
    await until(lambda: connection._process.returncode is not None)


async def test_the_server_goes_with_its_client(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal
from agentfactory.configs.roles import SandboxSettings
from agentfactory.runtime.sandbox.python import PythonSandbox
async def main():
    sandbox = PythonSandbox(SandboxSettings(timeout_s=60))
    await sandbox.start()
    print(sandbox._server._connection._process.pid, flush=True)
    asyncio.create_task(sandbox.run("while True: pass"))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    root = str(Path(__file__).parents[3])
    async with asyncio.timeout(LIMIT_S):
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": root}
        )
        output, _ = await client.communicate()
    await until_dead(int(output))


async def test_a_module_that_does_not_exist_is_told_at_the_start() -> None:
    sandbox = PythonSandbox(SandboxSettings(modules=("no_such_module",)))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SandboxError, match="cannot load no_such_module"):
            await sandbox.start()
        await sandbox.aclose()


async def test_a_process_that_cannot_be_started_is_a_sandbox_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    sandbox = PythonSandbox(SandboxSettings())
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SandboxError, match="cannot be started"):
            await sandbox.start()
        assert (await sandbox.run("1+2")).failure == "crashed"
        await sandbox.aclose()


async def test_without_the_filter_the_sandbox_refuses_to_start_unless_weak_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filters = "agentfactory.runtime.sandbox.inside.seccomp_filters"
    broken = f"import {filters} as s; s.python_call_filter = lambda reads: None; "
    monkeypatch.setattr(
        "agentfactory.runtime.sandbox.fork_server_client._BOOTSTRAP",
        "import sys; sys.path += {path!r}; " + broken + "from {module} import main; main()",
    )
    strict = PythonSandbox(SandboxSettings())
    weak = PythonSandbox(SandboxSettings(allow_weak=True))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SandboxError, match="there is no filter for this system"):
            await strict.start()
        await strict.aclose()
        await weak.start()
        assert weak.isolation is not None
        assert weak.isolation.level == "limits"
        assert (await weak.run("1+2")).output == "3"
        await weak.aclose()


async def test_a_filter_that_lets_things_through_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = "agentfactory.runtime.sandbox.inside.seccomp_filters"
    broken = f"import {filters} as s; s._COMPUTE.update(socketpair=(53, 199)); "
    monkeypatch.setattr(
        "agentfactory.runtime.sandbox.fork_server_client._BOOTSTRAP",
        "import sys; sys.path += {path!r}; " + broken + "from {module} import main; main()",
    )
    sandbox = PythonSandbox(SandboxSettings())
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SandboxError, match="opened a socket"):
            await sandbox.start()
        await sandbox.aclose()


def test_isolation_says_what_holds_here() -> None:
    found = isolation()
    assert found.level == "seccomp"
    assert found.detail == ""
    assert isolation() is found
