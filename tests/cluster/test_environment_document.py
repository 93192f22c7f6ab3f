"""The commands and the Python of docs/environment.md run as shown, on a free port."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentfactory.cli import main
from tests.agentfactory.test_cli import command
from tests.agentfactory.test_documents import small_preset

DOCUMENT = Path(__file__).parents[2] / "docs" / "environment.md"
URL = "http://127.0.0.1:8100/v1"
LIMIT_S = 180


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("environment")
    small_preset(made)
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """What the document's command starts; its end is clean."""
    program, *arguments = block("sh").split()
    assert program == "agentfactory"
    process = subprocess.Popen(
        command(*arguments, "--port", "0", "--preset", "small.yaml"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("environments on "), process.communicate()
    yield line.removeprefix("environments on ").strip()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_commands_are_answered(url: str) -> None:
    script = block("bash").replace(URL, url).replace("curl ", "curl --fail -s -w '\\n' ")
    done = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    seen, step, answer, _ = done.stdout.splitlines()
    assert json.loads(seen)["text"].startswith(("Load the ", "Store the "))
    assert json.loads(step)["observation"]["data"]["tag"] == "docs"
    assert json.loads(answer)["done"] is True


def test_the_python_sees_the_same_over_http_and_in_process(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text = block("python").replace(URL, url)
    settings = "from agentfactory.configs.load import load_settings\n"
    here = text.replace("DataPlane.open()", "DataPlane.open(load_settings('small.yaml').data)")
    assert here != text
    body = textwrap.indent(settings + here, "    ")
    names: dict[str, object] = {}
    exec(f"async def main():\n{body}    return over_http, in_process\n", names)
    over_http, in_process = asyncio.run(names["main"]())  # type: ignore[operator]
    assert over_http == in_process
    assert over_http[1] == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], ["needs a key", "AGENTFACTORY_API_KEY"]),
        (["--port", "70000"], ["port", "65535"]),
        (["--episodes", "nowhere"], ["nowhere", "no trajectories"]),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_preset(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["environment", *arguments, "--preset", "small.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (sentence,) = said.err.splitlines()
    for word in ["agentfactory: ", *words]:
        assert word in sentence
