"""What a session's calls leave behind, and what they may take together, at every level."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.commands import CommandSandbox
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.resource_usage import descendants, folder_usage, is_alive
from agentfactory.runtime.sandbox.session import PythonSession
from agentfactory.runtime.sandbox.workspace import Workspace, remove_tree

LIMIT_S = 60.0
GONE = "the session is gone, and the next call begins a new one"


@pytest.fixture
def workdir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agentfactory-limits-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(params=["bubblewrap", "landlock", "limits"])
def settings(request: pytest.FixtureRequest) -> CommandSandboxSettings:
    return CommandSandboxSettings(
        level=request.param, allow_weak=True, timeout_s=30.0, output_bytes=4000, memory_mb=200, workdir_mb=8,
        workdir_files=300,
    )  # fmt: skip


@pytest.fixture
async def session(
    settings: CommandSandboxSettings,
    workdir: Path,
    left_behind: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[PythonSession]:
    session = PythonSession(settings, workdir)
    try:
        await session.start()
        await session.run("1")
    except SandboxError as error:
        if "ermission denied" not in str(error):
            pytest.skip(str(error))
        # Where we are root, this Python may lie in a folder that nobody else enters; the system's does not.
        monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
        await session.run("1")
    yield session
    await session.aclose()
    assert left_behind() == []


@pytest.fixture
async def sandbox(settings: CommandSandboxSettings) -> AsyncIterator[CommandSandbox]:
    sandbox = CommandSandbox(settings)
    try:
        await sandbox.start()
    except SandboxError as error:
        pytest.skip(str(error))
    yield sandbox
    await sandbox.aclose()


def processes_of(session: PythonSession) -> set[int]:
    assert session._open is not None
    return set(filter(is_alive, descendants(session._open.running.pid)))


CHILDREN = """
import os, subprocess, time
for _ in range(3):
    if os.fork() == 0:
        held = os.urandom(2 ** 20) * 40
        while True: pass
subprocess.Popen(["sleep", "600"])
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
kept = 5
"""


async def test_processes_end_with_the_call_that_started_them(session: PythonSession) -> None:
    await session.run("1")
    before = len(processes_of(session))
    assert (await session.run(CHILDREN)).ok
    assert len(processes_of(session)) == before
    assert (await session.run("kept")).output == "5"
    assert session.starts == 1


THREAD = """
import threading, time, os, sys
def disturb():
    while True:
        print("from the thread")
        os.write(1, b"from the thread\\n")
        time.sleep(0.001)
threading.Thread(target=disturb, daemon=True).start()
time.sleep(0.05)
"""


async def test_threads_end_with_the_call_that_started_them(session: PythonSession) -> None:
    assert "from the thread" in (await session.run(THREAD)).output
    for number in range(3):
        assert (await session.run(f"import threading\n{number}, threading.active_count()")).output == (
            f"({number}, 1)"
        )
    assert session.starts == 1


PRINT_LATE = """
import sys
repl = sys.modules["agentfactory.runtime.sandbox.inside.session_repl"]
real = repl.fork_and_say
def instead(control, ending):
    print("after the last flush")
    real(control, ending)
repl.fork_and_say = instead
"""


async def test_what_a_call_prints_too_late_is_not_the_next_ones_output(session: PythonSession) -> None:
    assert (await session.run(PRINT_LATE)).ok
    assert (await session.run("1 + 1")).output == "2"
    assert (await session.run("print('own')")).output == "own"


FORGER = """
import os, socket, stat, threading, time
def speak():
    while True:
        for fd in range(3, 40):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b"ok\\n")
            except OSError: pass
        time.sleep(0.0005)
"""


async def test_a_thread_cannot_answer_for_the_session(session: PythonSession) -> None:
    start = "threading.Thread(target=speak, daemon=True).start()\ntime.sleep(0.5)\nprint('own')"
    spoken = await session.run(f"{FORGER}\n{start}")
    assert (spoken.failure, spoken.output) == ("crashed", f"Error: the code spoke for its session; {GONE}")
    assert (await session.run("6 * 7")).output == "42"


async def test_a_process_that_is_left_cannot_answer_for_the_session(session: PythonSession) -> None:
    assert (await session.run(f"{FORGER}\nif os.fork() == 0:\n    time.sleep(0.2); speak()\n1")).output == "1"
    for number in range(5):
        assert (await session.run(f"time.sleep(0.1)\n{number}")).output == f"{number}"


TAKEOVER = """
import os, sys
repl = sys.modules["agentfactory.runtime.sandbox.inside.session_repl"]
real = repl.receive_frame
def instead(control):
    WHAT
    return real(control)
repl.receive_frame = instead
"""


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("while True: pass", "used processor time"),
        (
            "import time; time.sleep(1); os.fork(); held = os.urandom(2 ** 20) * 120; time.sleep(600)",
            "memory",
        ),
        (
            "for n in range(10 ** 3): open(f'f{n}', 'w')",
            "held too many or too large files",
        ),
    ],
)
async def test_a_session_is_watched_between_its_calls(session: PythonSession, what: str, why: str) -> None:
    assert (await session.run(TAKEOVER.replace("WHAT", what))).ok
    async with asyncio.timeout(LIMIT_S):
        assert session._watching is not None
        await session._watching
    assert repr(session) == "<PythonSession down, 1 starts>"
    result = await session.run("1 + 1")
    note, value = result.output.splitlines()
    assert note.startswith("(the session was ended: it ")
    assert why in note
    assert (value, result.ok) == ("2", True)


FILL = {
    "bytes": "for n in range(64): open(f'b{n}', 'wb').write(b'x' * 2 ** 20)",
    "files": "for n in range(10 ** 5): open(f'f{n}', 'w')",
    "folders": "import os\nfor n in range(10 ** 5): os.makedirs(f'd{n % 100}/{n}')",
    "files deeper than any path": (
        "import os\nfor n in range(18): os.mkdir('d' * 250), os.chdir('d' * 250)\n"
        "for n in range(64): open(f'b{n}', 'wb').write(b'x' * 2 ** 20)"
    ),
    "files without a name": (
        "import os\nheld = []\nfor n in range(64):\n"
        "    held.append(open('b', 'wb', 0)); os.unlink('b'); held[-1].write(b'x' * 2 ** 20)"
    ),
    "links": "import os\nopen('a', 'w')\nfor n in range(10 ** 5): os.link('a', f'l{n}')",
}


@pytest.mark.parametrize("how", FILL)
async def test_a_workdir_has_a_limit_for_a_session(session: PythonSession, how: str) -> None:
    result = await session.run(FILL[how] + "\nimport time; time.sleep(600)")
    assert (result.failure, result.output) == ("disk", f"Error: too many or too large files; {GONE}")


@pytest.mark.parametrize("how", FILL)
async def test_a_workdir_has_a_limit_for_a_program(sandbox: CommandSandbox, workdir: Path, how: str) -> None:
    code = FILL[how] + "\nimport time; time.sleep(600)"
    result = await sandbox.run(["/usr/bin/env", "python3", "-c", code], workdir=workdir)
    assert result.ending == "disk", result


async def test_what_is_over_the_limit_already_can_be_used_and_removed(
    sandbox: CommandSandbox, workdir: Path
) -> None:
    for number in range(400):
        (workdir / f"old{number}").write_bytes(b"x" * 50_000)
    shell = ["sh", "-c", "ls | wc -l; sleep 0.3; rm old1*; ls | wc -l"]
    result = await sandbox.run(shell, workdir=workdir)
    assert (result.ending, result.stdout.split()) == ("ok", ["400", "289"])
    more = ["sh", "-c", "for n in $(seq 900); do echo > new$n; done; sleep 600"]
    assert (await sandbox.run(more, workdir=workdir)).ending == "disk"


async def test_private_folders_for_temporary_files_have_it_too(
    sandbox: CommandSandbox, workdir: Path, settings: CommandSandboxSettings
) -> None:
    if settings.level != "bubblewrap":
        pytest.skip("there are none at this level")
    for folder in ("/tmp", "/dev/shm"):
        code = f"for n in range(10 ** 5): open(f'{folder}/{{n}}', 'w')\nimport time; time.sleep(600)"
        result = await sandbox.run(["/usr/bin/env", "python3", "-c", code], workdir=workdir)
        assert result.ending == "disk", result


async def test_what_a_workdir_may_hold_is_settled_before_the_code_runs(
    session: PythonSession, workdir: Path
) -> None:
    """What lies in it by the time that somebody looks is not taken for what was there before."""
    await session._stop_watching()
    (workdir / "file").write_bytes(b"x" * 20 * 2**20)
    result = await session.run("import time; time.sleep(600)")
    assert (result.failure, result.output) == ("disk", f"Error: too many or too large files; {GONE}")
    assert (await session.run("1 + 1")).output == "2"


def test_a_folder_that_cannot_be_looked_into_counts_as_hidden(tmp_path: Path) -> None:
    make_deep(tmp_path, "d" * 250, 18)
    assert folder_usage(tmp_path, 100).hidden == 1
    remove_tree(tmp_path)


async def test_a_tree_of_any_depth_is_no_failure_of_ours(
    sandbox: CommandSandbox, workdir: Path, tmp_path: Path
) -> None:
    """Deeper than calls within calls may go, than paths may be long, than descriptors may be many."""
    make_deep(workdir, "d", 2500)
    (workdir / "closed").mkdir()
    (workdir / "closed" / "file").touch()
    (workdir / "closed").chmod(0)
    (workdir / "link").symlink_to(tmp_path)
    (tmp_path / "outside").touch()
    result = await sandbox.run(["echo", "6"], workdir=workdir)
    assert (result.ending, result.stdout) == ("ok", "6\n")
    assert len(Workspace(workdir).list(recursive=True)) > 1000
    remove_tree(workdir)
    assert not workdir.exists()
    assert (tmp_path / "outside").exists()


def make_deep(folder: Path, name: str, depth: int) -> None:
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def test_a_folder_is_counted_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "loop").symlink_to(tmp_path)
    usage = folder_usage(tmp_path, 100)
    assert usage.files == 3
    assert 10_000 <= usage.size < 40_000
    assert folder_usage(tmp_path, 1).files == 2
    assert folder_usage(tmp_path / "nothing", 100) == (0, 0, 0)
