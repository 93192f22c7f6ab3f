"""What one sandboxed call can find out about another: nothing, by any channel, at any level."""

import asyncio
import os
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from escape_attempts import PRELUDE

from agentfactory.configs.roles import SandboxSettings
from agentfactory.configs.sandbox import CommandSandboxSettings
from agentfactory.runtime.sandbox.commands import CommandSandbox
from agentfactory.runtime.sandbox.errors import SandboxError
from agentfactory.runtime.sandbox.python import PythonSandbox
from agentfactory.runtime.sandbox.resource_usage import children, descendants

LIMIT_S = 60.0
LEVELS = ("python", "bubblewrap", "landlock")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]

SIBLING = """
kept = "SECRET"
def leave(what):
    try: what()
    except BaseException as error: print(error)
def listen():
    global door
    door = socket.socket(1, 1); door.bind("\\0" + T["name"]); door.listen()
def share():
    i = call(29, T["key"], 4096, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    if i >= 0: ctypes.memmove(libc.shmat(i, None, 0), kept.encode(), len(kept))
def post():
    i = call(68, T["key"], 0o1666); m = struct.pack("q", 1) + kept.encode()
    call(69, i, m, len(kept), 0)
def queue():
    q = call(240, T["name"].encode(), 0o102, 0o666, 0); call(242, q, kept.encode(), len(kept), 0, 0)
leave(listen); leave(share); leave(post); leave(queue)
leave(lambda: call(248, b"user", T["name"].encode(), kept.encode(), len(kept), -4))
for folder in ("/tmp", "/dev/shm", "/var/tmp", "."):
    leave(lambda: open(f"{folder}/{T['name']}", "w").write(kept))
sys.stdout.write(kept); sys.stdout.flush()
while True: time.sleep(0.01) if time else None
"""
"""Leaves its secret wherever it can, and lives on."""

CHANNELS = {
    "frames": """
f = sys._getframe()
while f:
    show(f.f_locals); show(f.f_globals)
    for each in list(f.f_locals.values()):
        for inner in getattr(each, "__dict__", {}).values(): show(getattr(inner, "__dict__", inner))
    f = f.f_back""",
    "objects": """
gc = module("gc")
for o in gc.get_objects():
    show(o)
    for d in (getattr(o, "__dict__", None),): show(d)""",
    "memory": """
here = {id(o) & ~0xfffff for o in module("gc").get_objects()}
for at in sorted(here): show(bytes((ctypes.c_char * 4096).from_address(at & ~0xfff)))""",
    "descriptors": """
for f in range(300):
    try: show(os.pread(f, 4096, 0))
    except OSError: pass
for f in range(3, 300):
    try: os.set_blocking(f, False); show(os.read(f, 4096))
    except OSError: pass""",
    "processes": """
names = ("cmdline", "environ", "maps", "stack", "syscall", "root/tmp/" + T["name"], "cwd/" + T["name"])
for p in [T["sibling"], *range(1, 60), *(int(n) for n in os.listdir("/proc") if n.isdigit())]:
    for name in names:
        try:
            b = open(f"/proc/{p}/{name}", "rb").read()
            if p != os.getpid(): show(b)
        except OSError: pass""",
    "memory of processes": """
for p in [T["sibling"], os.getppid(), 1]:
    try: os.open(f"/proc/{p}/mem", os.O_RDONLY); print("LEAK", p) if p != os.getpid() else None
    except OSError: pass""",
    "tracing": """
for p in [T["sibling"], os.getppid()]:
    if libc.ptrace(16, p, 0, 0) == 0: print("LEAK traced", p)""",
    "signals": """
for p in [T["sibling"], os.getppid()]:
    try: os.kill(p, 0); print("LEAK signalled", p) if T["level"] == "python" else None
    except OSError: pass
try: os.kill(T["sibling"], 19)
except OSError: pass""",
    "temporary files": """
for folder in ("/tmp", "/dev/shm", "/var/tmp", T["workdir"], os.path.dirname(T["workdir"])):
    try: names = os.listdir(folder)
    except OSError: names = []
    for name in {T["name"], *names}:
        try: show(open(f"{folder}/{name}").read())
        except (OSError, ValueError): pass""",
    "abstract sockets": """
s = socket.socket(1, 1); s.connect("\\0" + T["name"]); print("LEAK connected")""",
    "shared memory": """
libc.shmat.restype = ctypes.c_void_p
i = call(29, T["key"], 4096, 0o666)
if i >= 0: print("LEAK", ctypes.string_at(libc.shmat(i, None, 0), 60))""",
    "messages": """
i = call(68, T["key"], 0o666)
if i >= 0: print("LEAK queue", i)""",
    "message queues": """
if call(240, T["name"].encode(), 0, 0o666, 0) >= 0: print("LEAK")""",
    "keys": """
for ring in (-1, -2, -3, -4, -5):
    if call(250, 10, ring, b"user", T["name"].encode(), 0) >= 0: print("LEAK key")
    b = ctypes.create_string_buffer(4000)
    if call(250, 11, ring, b, 4000) > 0: print("LEAK ring")""",
    "watches": """
i = call(294, 0o4000)
for folder in (b"/usr/bin", b"/usr/lib", b"/tmp", b"."):
    if call(254, i, folder, 0x20) >= 0: print("LEAK watched", folder)
if call(300, 0, 0) >= 0: print("LEAK fanotify")
d = os.open("/usr", os.O_RDONLY)
if libc.fcntl(d, 1026, 1) == 0: print("LEAK dnotify")""",
}
"""Each prints LEAK, or shows what it finds."""

SHOW = """
import re
def show(found):
    try: text = repr(found)
    except BaseException: return
    for each in re.findall("sibl" + "ing-[0-9a-f]{24}", text): print("LEAK", each)
"""

Runner = Callable[[str], Awaitable[str]]


class World(NamedTuple):
    """A level at which a sibling runs, and a way to run another call there."""

    targets: dict[str, str | int]
    run: Runner
    alive: Callable[[], bool]


def script(code: str, targets: dict[str, str | int]) -> str:
    return f"{PRELUDE.replace('import random', 'import random, re')}\n{SHOW}\nT = {targets!r}\n{code}"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LEVELS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    secret = f"sibling-{secrets.token_hex(12)}"
    with tempfile.TemporaryDirectory(prefix="agentfactory-siblings-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        workdirs = [Path(folder, name) for name in ("one", "two")]
        for workdir in workdirs:
            workdir.mkdir()
        targets: dict[str, str | int] = {
            "level": request.param, "name": f"left-{secrets.token_hex(6)}", "key": secrets.randbits(30),
            "workdir": str(workdirs[0]), "sibling": 0,
        }  # fmt: skip
        async with asyncio.timeout(LIMIT_S):
            opened = await (_python() if request.param == "python" else _programs(request.param))
        run, close = opened
        before = set(descendants(os.getpid()))
        left = asyncio.create_task(run(script(SIBLING.replace("SECRET", secret), targets), workdirs[0]))
        targets["sibling"] = await _newest(before)
        yield World(targets, lambda code: run(code, workdirs[1]), lambda: not left.done())
        left.cancel()
        await close()


Opened = tuple[Callable[[str, Path], Awaitable[str]], Callable[[], Awaitable[None]]]


async def _python() -> Opened:
    sandbox = PythonSandbox(SandboxSettings(timeout_s=300.0, output_bytes=65536))
    await sandbox.start()

    async def run(code: str, _: Path) -> str:
        return (await sandbox.run(code)).output

    return run, sandbox.aclose


async def _programs(level: str) -> Opened:
    settings = CommandSandboxSettings.model_validate({"level": level, "timeout_s": 300.0})
    sandbox = CommandSandbox(settings)
    try:
        await sandbox.start()
    except SandboxError as error:
        pytest.skip(f"does not hold here: {error}")
    python = next(p for p in ("/usr/bin/python3", sys.executable) if os.path.exists(p))

    async def run(code: str, workdir: Path) -> str:
        result = await sandbox.run([python, "-I", "-S", "-B", "-c", code], workdir=workdir)
        return result.stdout + result.stderr

    return run, sandbox.aclose


async def _newest(before: set[int]) -> int:
    """The process of the call that has begun, once it looks like one that waits."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            leaves = [p for p in descendants(os.getpid()) if p not in before and not children(p)]
            if len(leaves) == 1 and _switches(leaves[0]) > 20:
                return leaves[0]
            await asyncio.sleep(0.01)


def _switches(pid: int) -> int:
    """Times that it has been put to sleep, or been interrupted: a sibling that has begun to wait."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", text))


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_call_learns_nothing_of_its_sibling(channel: str, world: World) -> None:
    code = script(
        f"try:\n    pass{CHANNELS[channel].replace(chr(10), chr(10) + '    ')}\n"
        "except BaseException as error: print('failed:', error)\nprint('tried')",
        world.targets,
    )
    async with asyncio.timeout(LIMIT_S):
        output = await world.run(code)
    assert "LEAK" not in output
    assert "tried" in output or channel == "memory", output  # reading memory at random may crash
    assert world.alive()


async def test_the_look_for_a_secret_finds_one_that_is_there(world: World) -> None:
    own = f"mine = 'sibling-' + '{'a' * 24}'"
    for channel in ("frames", "objects"):
        output = await world.run(script(f"{own}\n{CHANNELS[channel]}", world.targets))
        assert f"LEAK sibling-{'a' * 24}" in output, output


async def test_the_process_that_forks_never_holds_what_its_children_work_on() -> None:
    secret = f"sibling-{secrets.token_hex(12)}"
    sandbox = PythonSandbox(SandboxSettings(timeout_s=60.0))
    async with asyncio.timeout(LIMIT_S):
        await sandbox.start()
        connection = sandbox._server._connection
        assert connection is not None
        launcher = connection._process.pid
        template = (children(launcher) or [launcher])[0]
        running = asyncio.create_task(sandbox.run(f"print('{secret}', flush=True)\nwhile True: pass"))
        while not children(template):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await sandbox.run(f"'{secret}'")).ok
        holders = [secret.encode() in memory_of(pid) for pid in (children(template)[0], template, launcher)]
        assert holders == [True, False, False]
        running.cancel()
        await sandbox.aclose()


OVERWRITE = """
import random
sys = random._os.sys
ctypes, library = sys.modules["ctypes"], next(m for m in sys.meta_path if hasattr(m, "_sources"))
source = library._sources["this"]
archive = ctypes.c_void_p.from_address(id(library._text) + 16).value
mprotect = ctypes.CDLL(None).mprotect
print(mprotect(ctypes.c_void_p(archive + source.start & ~4095), ctypes.c_size_t(4096), 3))
ctypes.memmove(ctypes.c_void_p(archive + source.start), b"print('LEAK') #", 15)
"""
"""Makes the memory that holds the library writable, and puts code of its own into a module."""


async def test_what_a_call_writes_into_the_memory_that_it_was_forked_with_stays_its_own() -> None:
    sandbox = PythonSandbox(SandboxSettings())
    async with asyncio.timeout(LIMIT_S):
        assert (await sandbox.run(OVERWRITE)).output == "0"
        later = await sandbox.run("import random\nrandom._os.__builtins__['__import__']('this')")
        assert later.output.startswith("The Zen of Python")
        connection = sandbox._server._connection
        assert connection is not None
        launcher = connection._process.pid
        for pid in (launcher, *children(launcher)):
            maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            shared = [line[5] for line in maps if line[1].endswith("s")]
            assert all(os.path.exists(path) for path in shared), shared  # not of memory, to be changed
        await sandbox.aclose()


def memory_of(pid: int) -> bytes:
    """All that a process may write to; skips where reading it takes rights that this user lacks."""
    found = []
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                first, last = (int(each, 16) for each in line.split()[0].split("-"))
                if line.split()[1].startswith("rw"):
                    memory.seek(first)
                    found.append(memory.read(last - first))
    except PermissionError:
        pytest.skip("only root reads the memory of a process that hides it")
    return b"".join(found)
