"""Engines of installed packages: one from a folder outside the project, in settings and in a command."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import load_settings
from agentfactory.configs.models import BaseEngineSettings, ModelSettings
from agentfactory.runtime.engines.registry import open_engine

ENGINE = """
from typing import Literal
from pydantic import Field
from agentfactory.configs.models import BaseEngineSettings
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.registry import EngineKind
from agentfactory.runtime.engines.simulated import ScriptedEngine

class ParrotSettings(BaseEngineSettings):
    kind: Literal["parrot"] = "parrot"
    says: str = Field(default="Answer: 1", min_length=1)

def open_parrot(model, settings):
    return ScriptedEngine(lambda prompt, adapter: settings.says, ChatFormat.load(model.locate()))

ENGINE = EngineKind(ParrotSettings, open_parrot)
"""
USE = """
import asyncio
from pathlib import Path
from agentfactory.configs.load import load_settings, read_stored
from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.registry import open_engine

async def main():
    settings = load_settings("parrot.yaml")
    Path("stored.json").write_text(settings.model_dump_json())
    stored = read_stored(Path("stored.json"))
    assert stored == settings
    engine = open_engine(stored.model, stored.engine)
    await engine.start()
    asked = Generate(request_id="1", prompt_ids=(1,), sampling=SamplingSettings(max_tokens=64))
    print(ChatFormat.load(stored.model.locate()).decode((await engine.generate(asked)).token_ids))
    await engine.aclose()

asyncio.run(main())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that brings the engine `parrot`."""
    (tmp_path / "parrot.py").write_text(ENGINE)
    info = tmp_path / "parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentfactory.engines]\nparrot = parrot:ENGINE\nvllm = parrot:ENGINE\nlost = nowhere:ENGINE\n"
    )
    (tmp_path / "parrot.yaml").write_text("extends: laptop\nengine: {kind: parrot, says: 'Answer: 4'}\n")
    return tmp_path


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, cwd=folder, check=False
    )


def test_a_package_can_bring_an_engine_of_its_own(package: Path) -> None:
    done = call(package, "-c", USE)
    assert done.stdout.strip() == "Answer: 4", done.stderr


def test_an_engine_of_a_package_answers_a_command(package: Path) -> None:
    done = call(package, "-m", "agentfactory", "solve", "What is 2 + 2?", "--preset", "parrot.yaml")
    assert done.returncode == 0, done.stderr
    assert "4" in done.stdout


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        ("{kind: parrott}", "engine: unknown kind 'parrott'"),
        (
            "{kind: parrot, say: x}",
            "engine: unknown key 'say'; known keys of 'parrot': 'copies', 'kind', 'says', 'start_timeout_s'",
        ),
        ("{kind: parrot, says: ''}", "engine.says: String should have at least 1 character"),
        ("{kind: lost}", "engine.kind: 'lost' is 'nowhere:ENGINE' of an installed package, which cannot be"),
        ("{kind: vllm, says: x}", "unknown key 'engine.says'"),  # ours cannot be taken over
    ],
)
def test_wrong_settings_of_it_are_refused_in_a_sentence(package: Path, engine: str, complaint: str) -> None:
    (package / "parrot.yaml").write_text(f"extends: laptop\nengine: {engine}\n")
    done = call(package, "-m", "agentfactory", "solve", "x", "--preset", "parrot.yaml")
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("evolve", "laptop"), ("serve",)])
def test_an_unknown_kind_is_refused_on_the_command_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = call(tmp_path, "-m", "agentfactory", *command, "--engine", "vlm")
    assert done.returncode == 2
    assert "unknown kind 'vlm'; did you mean 'vllm'?" in done.stderr


def test_settings_without_an_engine_are_refused_when_it_is_opened() -> None:
    class Nowhere(BaseEngineSettings):
        kind: Literal["nowhere"] = "nowhere"

    with pytest.raises(
        SettingsError, match="no engine of the kind 'nowhere'; known: transformers, vllm, sim"
    ):
        open_engine(ModelSettings(), Nowhere())


def test_an_unknown_kind_is_not_run_by_another_engine() -> None:
    with pytest.raises(SettingsError, match="engine: unknown kind 'tgi'"):
        load_settings("laptop", {"engine.kind": "tgi"})
