"""`agentfactory route`: what it prints, and what it says to bad input."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from agentfactory.messages.routing import Routed
from tests.agentfactory.test_cli import call, refused
from tests.runtime.llm.model_server import Act, ModelServer, OpenAIWire, serving

pytestmark = pytest.mark.slow


def chain_file(folder: Path, *servers: ModelServer) -> str:
    models = [
        {
            "name": f"model-{i}",
            "declared_confidence": 0.5,
            "model": {
                "kind": "openai",
                "model": "m",
                "base_url": f"{server.url}/v1",
                "retry": {"attempts": 1},
            },
        }
        for i, server in enumerate(servers)
    ]
    (folder / "models.yaml").write_text(yaml.safe_dump({"chain": models}))
    return "models.yaml"


async def route(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(call, "route", *arguments, cwd=folder)


async def test_the_seed_model_alone_answers_where_no_file_is_given(tmp_path: Path) -> None:
    done = await route(tmp_path, "What is 2+2?", "--json")
    assert done.returncode == 0, done.stderr
    routed = Routed.model_validate_json(done.stdout)
    assert (routed.decision.model, [each.model for each in routed.decision.considered]) == ("seed", ["seed"])


async def test_explain_shows_every_model_with_its_reason_in_plain_lines(tmp_path: Path) -> None:
    async with serving(OpenAIWire()) as broken, serving(OpenAIWire()) as well:
        broken.script = [Act(status=500, error="on fire")]
        done = await route(tmp_path, "hi", "--models", chain_file(tmp_path, broken, well), "--explain")
    assert done.returncode == 0, done.stderr
    answer, columns, *rows, summary = done.stdout.splitlines()
    assert answer == "Hello"
    assert columns.split("\t") == ["model", "outcome", "confidence", "expected", "cost", "seconds", "why"]
    first, second = (row.split("\t") for row in rows)
    assert (first[0], first[1]) == ("model-0", "failed")
    assert "on fire" in first[-1]
    assert second[:3] == ["model-1", "taken", "0.50 declared"]
    assert "model-1, the surest there was, below the threshold" in summary


async def test_where_nobody_answers_the_reasons_are_one_sentence_and_the_exit_code_is_1(
    tmp_path: Path,
) -> None:
    async with serving(OpenAIWire()) as broken:
        broken.script = [Act(status=500, error="on fire")]
        models = chain_file(tmp_path, broken)
        done = await route(tmp_path, "hi", "--models", models)
        explained = await route(tmp_path, "hi", "--models", models, "--explain")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("agentfactory: ")]
    assert "no model of the chain answered: model-0: " in line
    assert "on fire" in line
    assert explained.returncode == 1
    assert "model-0\tfailed" in explained.stdout


async def test_with_json_nothing_else_is_on_stdout(tmp_path: Path) -> None:
    async with serving(OpenAIWire()) as well:
        done = await route(tmp_path, "hi", "--models", chain_file(tmp_path, well), "--json", "--explain")
    assert json.loads(done.stdout)["reply"]["text"] == "Hello"
    assert "model-0\ttaken" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([" "], ["the task is empty"]),
        (["hi", "--models", "none.yaml"], ["none.yaml", "no such settings file"]),
        (["hi", "--models", "typo.yaml"], ["typo.yaml", "unknown key 'chian'", "did you mean 'chain'"]),
        (["hi", "--models", "deep.yaml"], ["deep.yaml", "chain.0", "modle"]),
        (["hi", "--models", "mute.yaml"], ["chain: far", "declared_confidence"]),
        (["hi", "--models", "state.yaml"], ["router.sqlite", "move it away"]),
        (["hi", "--preset", "lapdog"], ["unknown preset 'lapdog'"]),
    ],
)
def test_bad_input_gets_one_sentence(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    far = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    files: dict[str, object] = {
        "typo.yaml": {"chian": []},
        "deep.yaml": {"chain": [{"name": "far", "model": far | {"modle": 1}}]},
        "mute.yaml": {"chain": [{"name": "far", "model": far}]},
        "state.yaml": {"folder": "damaged"},
    }
    for name, values in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(values))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "router.sqlite").write_text("no database " * 100)
    sentence = refused("route", *arguments, cwd=tmp_path)
    for word in words:
        assert word in sentence


def test_a_task_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "not Unicode" in refused("route", "\udcff", cwd=tmp_path)
