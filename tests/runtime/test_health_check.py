"""A RAY_ADDRESS where no cluster answers: with real sockets, the real probe and the real `ray.init`."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import agentfactory.runtime.on_ray.health_check as health_check
from agentfactory.runtime.errors import ClusterUnreachable
from agentfactory.runtime.on_ray.health_check import check_cluster

LIMIT_S = 180
ROOT = Path(__file__).parents[2]
HANGING_START = """
import asyncio
import agentfactory.runtime.on_ray.session as session

session.START_TIMEOUT_S = 0.05

async def main() -> None:
    async with session.ray_session():
        print("started")

asyncio.run(main())
"""
HANGING_END = HANGING_START.replace("START_TIMEOUT_S", "LEAVE_TIMEOUT_S")


class Listener:
    """A TCP server that is not Ray: it keeps what connects, after an answer of bytes."""

    def __init__(self, answer: bytes = b"") -> None:
        self._socket = socket.create_server(("0.0.0.0", 0))
        self._answer = answer
        self._accepted: list[socket.socket] = []
        self.asked = threading.Event()
        """Set once Ray's client has connected, after the first plain connection."""
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._socket.accept()
                self._accepted.append(accepted)
                if len(self._accepted) > 1:
                    self.asked.set()
                with suppress(OSError):
                    accepted.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()
        for each in self._accepted:
            each.close()


@contextmanager
def listening(answer: bytes = b"") -> Iterator[Listener]:
    with closing(Listener(answer)) as listener:
        yield listener


def nobody() -> str:
    """An address that was free a moment ago."""
    with socket.create_server(("0.0.0.0", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def evolve(address: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "agentfactory", "evolve", "--run-dir", str(folder / "run")]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nosuch.invalid:6379", "nobody listens at nosuch.invalid:6379"),
        ("ray://127.0.0.1:10001", "an address of Ray Client, which cannot host actors of ours"),
        ("http://127.0.0.1:8265", "an address with http:// is one for `ray job submit --address`"),
        ("http://[bad", "an address with http:// is one for `ray job submit --address`"),
        ("ray://[x", "that is an address of Ray Client"),
        ("nonsense", "it is not HOST:PORT (Invalid address format: nonsense)"),
        ("127.0.0.1:99999", "it is not HOST:PORT"),
        ("127.0.0.1:port", "it is not HOST:PORT"),
        ("a\nb", "it is not HOST:PORT"),
    ],
)
async def test_an_address_that_cannot_be_one_is_refused(address: str, sentence: str) -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        await check_cluster(address)
    assert f"RAY_ADDRESS={address!r}: " in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"\0" * 64]
)
async def test_a_listener_that_is_not_ray_is_refused(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_check, "ANSWER_TIMEOUT_S", 0.5)
    with listening(answer) as listener, pytest.raises(ClusterUnreachable, match="no Ray answers"):
        await check_cluster(listener.address)


def test_an_address_where_nobody_listens_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    address = nobody()
    with evolve(address, tmp_path) as running:
        out, err = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 2, err
    assert re.fullmatch(r"starting Ray( \(\d+\.\d s\))?\n", out), out
    (line,) = err.splitlines()
    assert line.startswith(f"agentfactory: cannot join the Ray cluster at RAY_ADDRESS='{address}': nobody")
    assert "unset RAY_ADDRESS" in line


def test_ctrl_c_ends_the_wait_for_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    with listening() as listener, evolve(listener.address, tmp_path) as running:
        assert listener.asked.wait(LIMIT_S)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=LIMIT_S)
    assert err == "agentfactory: interrupted\n"
    assert running.returncode == 130


@pytest.mark.ray
def test_a_start_that_takes_too_long_leaves_no_process(tmp_path: Path) -> None:
    done = run_and_see_all_ended(HANGING_START, tmp_path)
    assert done.stdout == ""
    assert "TransportError: cannot start Ray on this machine: no answer within 0.05 s" in done.stderr


@pytest.mark.ray
def test_a_ray_that_does_not_shut_down_ends_with_the_program(tmp_path: Path) -> None:
    done = run_and_see_all_ended(HANGING_END, tmp_path)
    assert done.returncode == 0, done.stderr
    first, warning = done.stdout.splitlines()
    assert first == "started"
    assert "Ray has not shut down within 0.05 s" in warning


def run_and_see_all_ended(program: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """What became of a program, once all that it started has ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    environment["STARTED_BY"] = mark = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    left = [each for each in psutil.process_iter() if _environment(each).get("STARTED_BY") == mark]
    psutil.wait_procs(left, timeout=LIMIT_S)
    assert not [each for each in left if each.is_running()]
    return done


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}
