"""The record of sandboxed calls: what is in it, what is not, and how large it gets."""

import asyncio
import json
from pathlib import Path

import pytest

from agentfactory.configs.errors import CannotWrite
from agentfactory.configs.roles import SandboxSettings
from agentfactory.configs.sandbox import AuditSettings, CommandSandboxSettings
from agentfactory.runtime.sandbox import audit_log
from agentfactory.runtime.sandbox.audit_log import AuditLog, masked, readable_arguments
from agentfactory.runtime.sandbox.commands import CommandSandbox
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.python import PythonSandbox


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_call_is_one_line(tmp_path: Path) -> None:
    settings = AuditSettings(file=str(tmp_path / "logs" / "audit.jsonl"))
    cells = PythonSandbox(SandboxSettings(allow_weak=True, audit=settings))
    commands = CommandSandbox(CommandSandboxSettings(allow_weak=True, audit=settings))
    await cells.run("1 / 0")
    await commands.run(["sh", "-c", "exit 3"], workdir=_open_folder(tmp_path))
    await cells.aclose()
    await commands.aclose()
    first, second = sorted(lines(Path(settings.file)), key=lambda line: str(line["tool"]), reverse=True)
    assert (first["tool"], first["arguments"], first["ending"]) == ("python", ["1 / 0"], "error")
    assert (second["tool"], second["arguments"], second["ending"]) == (
        "command",
        ["sh", "-c", "exit 3"],
        "error",
    )
    assert commands.isolation is not None
    assert second["level"] == commands.isolation.level
    assert float(str(second["seconds"])) > 0


async def test_a_call_that_never_came_up_is_in_the_record(tmp_path: Path) -> None:
    settings = AuditSettings(file=str(tmp_path / "audit.jsonl"))
    commands = CommandSandbox(CommandSandboxSettings(allow_weak=True, audit=settings))
    with pytest.raises(SandboxError):
        await commands.run(["true"], workdir=tmp_path / "nowhere")
    await commands.aclose()
    (line,) = lines(Path(settings.file))
    assert (line["arguments"], line["ending"]) == (["true"], "crashed")


def _open_folder(tmp_path: Path) -> Path:
    """Where we are root, programs run as nobody, who has to get there."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("curl -H 'Authorization: Bearer abc.def'", "curl -H 'Authorization: Bearer ***'"),
        ("login --password hunter2 now", "login --password *** now"),
        ('{"api_key": "abcd", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("OPENAI_API_KEY=sk-abcdefghijkl python x.py", "OPENAI_API_KEY=*** python x.py"),
        ("git clone https://me:secret1@host/x", "git clone https://***@host/x"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("x = 'ghp_0123456789abcdef'", "x = '***'"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- x", "*** x"),
        ("max_tokens = 5; print(tokens)", "max_tokens = 5; print(tokens)"),
        ("print(12 * 34)", "print(12 * 34)"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_an_options_value_is_masked_and_long_arguments_are_cut() -> None:
    shown = readable_arguments(["mysql", "--password", "x", "a" * 50, "sk-" + "b" * 60], 20)
    assert shown == ["mysql", "--password", "***", "a" * 20 + "… (30 more)", "***… (43 more)"]


async def test_the_files_together_stay_bounded(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    log = AuditLog(AuditSettings(file=str(file), max_mb=0.002, files=3))
    for number in range(200):
        log.record("python", [str(number)], "seccomp", "ok", 0.1)
        await asyncio.sleep(0.001)
    await log.aclose()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(path.stat().st_size <= 0.002 * 2**20 for path in tmp_path.iterdir())
    kept = [line["arguments"] for name in reversed(files) for line in lines(tmp_path / name)]
    assert kept[-1] == ["199"]
    assert kept == [[str(n)] for n in range(200 - len(kept), 200)]


async def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    settings = AuditSettings(file=str(tmp_path / "audit.jsonl"), max_mb=0.002, files=50)
    logs = [AuditLog(settings) for _ in range(4)]
    for number in range(50):
        for log in logs:
            log.record("python", [str(number)], "seccomp", "ok", 0.1)
        await asyncio.sleep(0)
    for log in logs:
        await log.aclose()
    found = [line["arguments"] for path in tmp_path.iterdir() for line in lines(path)]
    assert sorted(found) == sorted([str(n)] for n in range(50) for _ in logs)


async def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = AuditLog(AuditSettings(file=str(tmp_path / "file" / "audit.jsonl")))
    log.record("python", ["1"], "seccomp", "ok", 0.1)
    with pytest.raises(CannotWrite, match="calls cannot be written down"):
        await log.aclose()
    with pytest.raises(CannotWrite):
        log.record("python", ["2"], "seccomp", "ok", 0.1)


async def test_what_comes_too_fast_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_WAITING", 3)
    log = AuditLog(AuditSettings(file=str(tmp_path / "audit.jsonl")))
    for number in range(5):
        log.record("python", [str(number)], "seccomp", "ok", 0.1)
    await log.aclose()
    log.record("python", ["5"], "seccomp", "ok", 0.1)
    await log.aclose()
    assert [line.get("lost_before") for line in lines(tmp_path / "audit.jsonl")] == [None, None, None, 2]


async def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    log = AuditLog(AuditSettings())
    log.record("python", ["1"], "seccomp", "ok", 0.1)
    await log.aclose()
    assert repr(log) == "<AuditLog off, 0 waiting>"
