"""The whole loop on the real vLLM."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.agentfactory.test_cli import call
from tests.agentfactory.test_documents import small_preset


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_a_run_on_vllm_trains_and_evaluates(tmp_path: Path) -> None:
    small_preset(tmp_path)
    done = call(
        "evolve", "small.yaml", "--engine", "vllm", "--set", "engine.compile=false", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert [round["version"] for round in result["rounds"]] == [0, 1]
    assert result["failed"] == 0
