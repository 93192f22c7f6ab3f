"""The commands and the Python of docs/serving.md run as shown, on a free port."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_serving import LIMIT_S, make_run, start

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the last of the document's `agentfactory serve` starts, on a run of one version."""
    _, line = block("sh").splitlines()
    run_dir = make_run(tmp_path_factory.mktemp("serving") / "run", versions=1)
    program, subcommand, *arguments = line.replace("runs/first", str(run_dir)).split()
    assert (program, subcommand) == ("agentfactory", "serve")
    process, url = start(*arguments)
    yield url
    process.terminate()
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_commands_are_answered(url: str) -> None:
    script = block("bash").replace("http://127.0.0.1:8000/v1", url).replace("curl", "curl --fail -s -w '\\n'")
    done = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    models, chat, *events = done.stdout.splitlines()
    assert [model["id"] for model in json.loads(models)["data"]][:2] == ["seed", "student-v1"]
    assert json.loads(chat)["choices"][0]["finish_reason"] == "stop"
    assert [event for event in events if event][-1] == "data: [DONE]"


def test_the_python_is_answered(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(block("python").replace("http://127.0.0.1:8000/v1", url), names)
    names["client"].close()  # type: ignore[attr-defined]
    assert "Thought:" in capsys.readouterr().out
    assert len(names["vectors"].data) == 2  # type: ignore[attr-defined]
