"""How long a person waits for the program: its help, and the first prompt of a conversation.

    python -m benchmarks.start

Each starts anew in a folder of its own, at a terminal of its own, with both tiers embedded; the file cache is
warm. The prompt is counted from the start of the process until it can be seen.
"""

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figures, median

ROUNDS = 7
LIMIT_S = 60.0
HERE = Path(__file__).parents[1]
PROGRAM = (sys.executable, "-m", "agentfactory")
PRESET = "extends: laptop\ndata: {store: {kind: embedded}, cache: {kind: embedded}}\n"
WHERE_IS_THE_CURSOR, FIRST_CELL = b"\x1b[6n", b"\x1b[1;1R"


def help_s(folder: Path) -> float:
    """Seconds until the help has been printed."""
    begin = time.perf_counter()
    subprocess.run([*PROGRAM, "--help"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def prompt_s(folder: Path) -> float:
    """Seconds until a person can type."""
    (folder / "embedded.yaml").write_text(PRESET, encoding="utf-8")
    begin = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(PROGRAM[0], [*PROGRAM, "run", "iowarp_agent", "--preset", "embedded.yaml"])
    seen = b""
    while b"agent> " not in seen:
        if not select.select([terminal], [], [], LIMIT_S)[0]:
            raise TimeoutError(f"no prompt within {LIMIT_S:g} s: {seen.decode(errors='replace')}")
        part = os.read(terminal, 1 << 16)
        if WHERE_IS_THE_CURSOR in part:
            os.write(terminal, FIRST_CELL)
        seen += part
    waited_s = time.perf_counter() - begin
    os.write(terminal, b"quit\r")
    while select.select([terminal], [], [], LIMIT_S)[0]:
        try:
            os.read(terminal, 1 << 16)
        except OSError:  # the program has let go of its terminal
            break
    os.waitpid(pid, 0)
    return waited_s


def main() -> int:
    """Measure; 1 if a target is missed."""
    os.environ |= {"PYTHONPATH": str(HERE), "TERM": "xterm"}
    figures = Figures()
    for name, measured, target_s in (("start_help", help_s, 0.5), ("start_prompt", prompt_s, 1.5)):
        with tempfile.TemporaryDirectory() as folder:
            measured(Path(folder))
            seen = [measured(Path(folder)) for _ in range(ROUNDS)]
        print(f"# {name}: " + " ".join(f"{one:.2f}" for one in seen), flush=True)
        figures.add(name, median(seen), "s", "<=", target_s)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
