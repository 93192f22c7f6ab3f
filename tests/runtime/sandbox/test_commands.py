"""The command sandbox: what programs get, and what becomes of those that break a limit."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import load_section
from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox import sandboxed_process
from agentfactory.runtime.sandbox.commands import CommandResult, CommandSandbox
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.inside import landlock
from agentfactory.runtime.sandbox.isolation import probe_level
from agentfactory.runtime.sandbox.subprocess_io import ExitEvent

LEVELS = ("bubblewrap", "landlock", "limits")


@pytest.fixture
def workdir() -> Iterator[Path]:
    """In a folder that every user may enter: where we are root, programs run as nobody."""
    with tempfile.TemporaryDirectory(prefix="agentfactory-commands-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(params=LEVELS)
async def sandbox(
    request: pytest.FixtureRequest, left_behind: Callable[[], list[int]]
) -> AsyncIterator[CommandSandbox]:
    sandbox = CommandSandbox(settings(request.param))
    try:
        await sandbox.start()
    except SandboxError as error:
        pytest.skip(str(error))
    yield sandbox
    await sandbox.aclose()
    assert left_behind() == []


def settings(level: str, **changes: object) -> CommandSandboxSettings:
    values = {"level": level, "allow_weak": True, "timeout_s": 10.0, "output_bytes": 1000, **changes}
    return CommandSandboxSettings.model_validate(values)


async def shell(sandbox: CommandSandbox, workdir: Path, script: str, **limits: float) -> CommandResult:
    return await sandbox.run(["sh", "-c", script], workdir=workdir, **limits)


async def test_a_program_that_survives_its_kill_is_an_error_and_no_hang(
    sandbox: CommandSandbox, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxed_process, "_DEATH_TIMEOUT_S", 0.05)
    async with AsyncExitStack() as opened:
        program = await opened.enter_async_context(sandbox.open(["sleep", "600"], workdir=workdir))
        first = program.pid
        os.kill(first, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(ExitEvent, "kill", lambda self: None)  # as with one that the kernel does not let go
            with pytest.raises(SandboxError, match=r"alive 0\.05 s after its kill"):
                await opened.aclose()
    assert repr(sandbox).endswith("0 running>")
    os.kill(first, signal.SIGKILL)
    program._process.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a program or the kernel does, and tells nobody about."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_program_runs_in_its_folder_and_answers(sandbox: CommandSandbox, workdir: Path) -> None:
    result = await sandbox.run(["pwd"], workdir=workdir)
    assert (result.status, result.stdout, result.stderr, result.ending) == (0, f"{workdir}\n", "", "ok")


async def test_what_it_writes_stays_in_its_folder(sandbox: CommandSandbox, workdir: Path) -> None:
    (workdir / "given").write_text("old")
    result = await shell(sandbox, workdir, "cat given; echo new > given; mkdir d; echo x > d/made")
    assert (result.stdout, result.status) == ("old", 0)
    assert (workdir / "given").read_text() == "new\n"
    assert (workdir / "d" / "made").read_text() == "x\n"


async def test_standard_input_is_given(sandbox: CommandSandbox, workdir: Path) -> None:
    text = "line\n" * 100
    assert (await sandbox.run(["cat"], workdir=workdir, stdin=text.encode())).stdout == text


async def test_input_that_nobody_reads_is_no_error(sandbox: CommandSandbox, workdir: Path) -> None:
    assert (await sandbox.run(["true"], workdir=workdir, stdin=b"x" * 2**20)).ending == "ok"


async def test_the_environment_is_paths_home_and_language(sandbox: CommandSandbox, workdir: Path) -> None:
    lines = (await sandbox.run(["env"], workdir=workdir)).stdout.splitlines()
    assert {line.partition("=")[0] for line in lines} == {"PATH", "PYTHONPATH", "HOME", "LANG"}
    assert f"HOME={workdir}" in lines


async def test_an_exit_code_is_passed_on(sandbox: CommandSandbox, workdir: Path) -> None:
    result = await shell(sandbox, workdir, "echo out; echo err >&2; exit 7")
    assert result[:4] == (7, "out\n", "err\n", "error")


async def test_a_signal_shows_as_in_a_shell(sandbox: CommandSandbox, workdir: Path) -> None:
    result = await shell(sandbox, workdir, "kill -TERM $$")
    assert (result.status, result.ending) == (128 + signal.SIGTERM, "error")


async def test_a_missing_program_is_told_in_one_line(sandbox: CommandSandbox, workdir: Path) -> None:
    result = await sandbox.run(["no-such-program"], workdir=workdir)
    assert result[:4] == (127, "", "no-such-program: No such file or directory\n", "error")


async def test_no_shell_reads_the_words(sandbox: CommandSandbox, workdir: Path) -> None:
    assert (await sandbox.run(["echo", "$HOME; ls *"], workdir=workdir)).stdout == "$HOME; ls *\n"


async def test_at_the_deadline_all_processes_die_and_what_was_said_is_kept(
    sandbox: CommandSandbox, workdir: Path, left_behind: Callable[[], list[int]]
) -> None:
    result = await shell(sandbox, workdir, "echo begun; sleep 600 & sleep 600", timeout_s=1.0)
    assert (result.ending, result.stdout) == ("timeout", "begun\n")
    assert result.status == 128 + signal.SIGKILL
    assert left_behind() == []


async def test_what_a_program_leaves_behind_dies_with_it(
    sandbox: CommandSandbox, workdir: Path, left_behind: Callable[[], list[int]]
) -> None:
    result = await shell(sandbox, workdir, "sleep 600 >/dev/null 2>&1 & echo done")
    assert (result.ending, result.stdout) == ("ok", "done\n")
    assert left_behind() == []


async def test_a_flood_is_cut_at_the_limit(sandbox: CommandSandbox, workdir: Path) -> None:
    result = await sandbox.run(["yes"], workdir=workdir)
    assert (result.ending, result.stdout) == ("output", "y\n" * 500)


async def test_output_of_exactly_the_limit_is_whole(sandbox: CommandSandbox, workdir: Path) -> None:
    whole = await shell(sandbox, workdir, "head -c 1000 /dev/zero; head -c 1000 /dev/zero >&2")
    assert (whole.ending, len(whole.stdout), len(whole.stderr)) == ("ok", 1000, 1000)
    assert (await shell(sandbox, workdir, "head -c 1001 /dev/zero >&2; sleep 600")).ending == "output"


async def test_memory_counts_for_all_processes_together(workdir: Path) -> None:
    sandbox = CommandSandbox(settings("auto", memory_mb=100, timeout_s=50.0))
    await sandbox.start()
    part = "(head -c 60m /dev/zero; {}) | tail >/dev/null & "  # tail keeps the one line that this is
    assert (await shell(sandbox, workdir, part.format("true") + "wait")).ending == "ok"
    result = await shell(sandbox, workdir, part.format("sleep 600") * 4 + "wait")
    assert result.ending == "memory"
    await sandbox.aclose()


async def test_a_cancelled_call_leaves_nothing(
    sandbox: CommandSandbox, workdir: Path, left_behind: Callable[[], list[int]]
) -> None:
    task = asyncio.create_task(shell(sandbox, workdir, "echo up > up; sleep 600"))
    await until((workdir / "up").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert repr(sandbox).endswith("0 running>")
    assert left_behind() == []


async def test_closing_ends_what_runs(sandbox: CommandSandbox, workdir: Path) -> None:
    task = asyncio.create_task(shell(sandbox, workdir, "echo up > up; sleep 600"))
    await until((workdir / "up").exists)
    await sandbox.aclose()
    assert (await task).status == 128 + signal.SIGKILL
    with pytest.raises(SandboxError, match="closed"):
        await shell(sandbox, workdir, "true")


async def test_calls_beyond_the_limit_wait_their_turn(workdir: Path) -> None:
    sandbox = CommandSandbox(settings("auto", max_parallel=2))
    calls = (sandbox.run(["echo", str(n)], workdir=workdir) for n in range(6))
    results = await asyncio.gather(*calls)
    await sandbox.aclose()
    assert [int(result.stdout) for result in results] == list(range(6))


async def test_a_workdir_that_is_none_is_an_error(sandbox: CommandSandbox, workdir: Path) -> None:
    with pytest.raises(SandboxError, match="cannot be a program's workdir: No such file"):
        await sandbox.run(["true"], workdir=workdir / "nowhere")
    with pytest.raises(SandboxError, match="not the root"):
        await sandbox.run(["true"], workdir=Path("/"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files are handed over")
async def test_root_hands_its_files_over_but_not_those_with_a_second_name(workdir: Path) -> None:
    sandbox = CommandSandbox(settings("auto"))
    other = workdir.parent / f"{workdir.name}-other"
    other.write_text("mine")
    (workdir / "link").symlink_to("/etc/hostname")
    (workdir / "plain").write_text("x")
    try:
        os.link(other, workdir / "second")
        result = await shell(sandbox, workdir, "echo y > plain; echo y > second; id -u")
    finally:
        other_text, other_owner = other.read_text(), other.stat().st_uid
        other.unlink()
    await sandbox.aclose()
    assert result.stdout == "65534\n"
    assert (workdir / "plain").read_text() == "y\n"
    assert (other_text, other_owner) == ("mine", 0)
    assert Path("/etc/hostname").stat().st_uid == 0


async def test_without_bubblewrap_landlock_is_taken(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> None:
    if not (await probe_level("landlock", settings("landlock"))).holds:
        pytest.skip("there is no Landlock here")
    monkeypatch.setattr("agentfactory.runtime.sandbox.bwrap_command.shutil.which", lambda name: None)
    sandbox = CommandSandbox(settings("auto"))
    await sandbox.start()
    assert sandbox.isolation is not None
    assert sandbox.isolation.level == "landlock"
    assert sandbox.isolation.detail == "bubblewrap: bwrap is not installed"
    assert (await sandbox.run(["echo", "1"], workdir=workdir)).stdout == "1\n"
    await sandbox.aclose()


async def test_without_any_isolation_it_refuses_unless_weak_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentfactory.runtime.sandbox.bwrap_command.shutil.which", lambda name: None)
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(SandboxError, match=r"bwrap is not installed.*no Landlock.*allow_weak"):
        await CommandSandbox(settings("auto", allow_weak=False)).start()
    weak = CommandSandbox(settings("auto"))
    await weak.start()
    assert weak.isolation is not None
    assert weak.isolation.level == "limits"
    await weak.aclose()


async def test_a_wall_with_a_hole_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hole: the folder that the probe's file lies in may be read."""
    monkeypatch.setattr(
        "agentfactory.runtime.sandbox.bwrap_command._SYSTEM",
        ("/usr", "/bin", "/lib", "/lib64", tempfile.gettempdir()),
    )
    found = await probe_level("landlock", settings("landlock"))
    if "no Landlock" in found.why:
        pytest.skip(found.why)
    assert (found.holds, found.why) == (False, "a process inside read a file outside")


@pytest.mark.parametrize("abi", range(1, 7))
async def test_landlock_of_older_kernels_holds_with_the_filters_help(
    abi: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if landlock.abi() < abi:
        pytest.skip("this kernel is older")
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    found = await probe_level("landlock", settings("landlock"))
    assert found.holds, found.why


def test_limits_alone_have_to_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("level: limits\n")
    with pytest.raises(SettingsError, match="no isolation; set allow_weak"):
        load_section(tmp_path / "s.yaml", CommandSandboxSettings)


async def test_the_sandbox_goes_with_its_client(workdir: Path) -> None:
    script = """
import asyncio, os, sys
from pathlib import Path
from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.commands import CommandSandbox
async def main(level, workdir):
    sandbox = CommandSandbox(CommandSandboxSettings(level=level, timeout_s=600, allow_weak=True))
    words = ["sh", "-c", f"echo 1 > up; sleep {sys.argv[3]}"]
    task = asyncio.create_task(sandbox.run(words, workdir=workdir))
    while not (workdir / "up").exists():
        await asyncio.sleep(0)
    os.kill(os.getpid(), 9)
asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""
    for level in ("bubblewrap", "landlock"):
        if not (await probe_level(level, settings(level))).holds:
            continue
        (workdir / "up").unlink(missing_ok=True)
        seconds = f"86400.{os.getpid()}{len(level)}"
        client = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            level,
            str(workdir),
            seconds,
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
        )
        await client.wait()
        await until(lambda seconds=seconds: not _with_word(seconds))


def _with_word(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if word.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found
