"""Keys: who may connect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.errors import BridgeDown, BridgeError
from agentfactory.bridge.frames import zmq
from agentfactory.bridge.server.curve import server_secret
from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.configs.data import BridgeSettings
from agentfactory.configs.errors import BadInput
from tests.bridge.bridge_process import SMALL, serving

with_curve = pytest.mark.skipif(not zmq.has("curve"), reason="this build of pyzmq has no CURVE")
without_curve = pytest.mark.skipif(zmq.has("curve"), reason="this build of pyzmq has CURVE")


def key_file(folder: Path, secret: bytes, mode: int = 0o600) -> str:
    path = folder / "server.key"
    path.write_bytes(secret + b"\n")
    path.chmod(mode)
    return str(path)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = ServerSettings(secret_file=key_file(tmp_path, b"k" * 40, 0o640))
    with pytest.raises(BadInput, match="others can read the secret key"):
        server_secret(settings)


def test_a_secret_comes_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server_secret(ServerSettings(secret_file=key_file(tmp_path, b"k" * 40))) == b"k" * 40
    assert server_secret(ServerSettings()) == b""
    monkeypatch.setenv("AGENTFACTORY_BRIDGE_SERVER_SECRET", "e" * 40)
    assert server_secret(ServerSettings()) == b"e" * 40
    monkeypatch.setenv("AGENTFACTORY_BRIDGE_SERVER_SECRET", "too short")
    with pytest.raises(BadInput, match="has 40 characters"):
        server_secret(ServerSettings())
    with pytest.raises(BadInput, match="cannot be read"):
        server_secret(ServerSettings(secret_file=str(tmp_path / "nothing")))


@without_curve
async def test_a_build_without_curve_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no CURVE"):
        async with serving(secret_file=key_file(tmp_path, b"k" * 40)):
            pass
    with pytest.raises(BridgeError, match="has no CURVE"):
        async with BridgeClient(BridgeSettings(server_key="k" * 40)):
            pass


@with_curve
async def test_only_clients_with_an_allowed_key_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    public, secret = zmq.curve_keypair()
    allowed, allowed_secret = zmq.curve_keypair()
    _, stranger_secret = zmq.curve_keypair()
    told = {
        "endpoint": "tcp://0.0.0.0:*",
        "secret_file": key_file(tmp_path, secret),
        "allowed_clients": (allowed.decode(),),
    }
    async with serving(**told) as served:
        endpoint = served.server.endpoint.replace("0.0.0.0", "127.0.0.1")
        bridge = SMALL.model_copy(
            update={"endpoints": (endpoint,), "server_key": public.decode(), "connect_timeout_ms": 1000}
        )
        monkeypatch.setenv(bridge.client_secret_env, allowed_secret.decode())
        async with BridgeClient(bridge) as client:
            await client.put("docs", "a", b"x" * 1_000_000)
            assert await client.get("docs", "a") == b"x" * 1_000_000
        monkeypatch.setenv(bridge.client_secret_env, stranger_secret.decode())
        with pytest.raises(BridgeDown):
            async with BridgeClient(bridge):
                pass
        with pytest.raises(BridgeDown):
            async with BridgeClient(bridge.model_copy(update={"server_key": ""})):
                pass
    said = "".join(capfd.readouterr())
    assert secret.decode() not in said
    assert allowed_secret.decode() not in said


@with_curve
async def test_without_a_list_whoever_knows_the_servers_key_is_served(tmp_path: Path) -> None:
    public, secret = zmq.curve_keypair()
    async with serving(secret_file=key_file(tmp_path, secret)) as served:
        bridge = served.bridge.model_copy(update={"server_key": public.decode()})
        async with BridgeClient(bridge) as client:
            assert await client.ping(b"x") == b"x"


def test_pyzmq_runs_on_its_own_zeromq_beside_iowarp() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from agentfactory.bridge.frames import zmq; print(zmq.has('curve'))"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    alone = subprocess.run(
        [sys.executable, "-S", "-c", "import zmq; print(zmq.has('curve'))"],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.stdout == alone.stdout
