"""A chat backend from an installed package: registered by an entry point, used like one of ours."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agentfactory.messages.routing import Routed

ROOT = Path(__file__).parents[3]
PARROT = """
from typing import Literal
from agentfactory.configs.chat_models import BaseChatModelSettings
from agentfactory.messages.chat import Capabilities
from agentfactory.runtime.llm.backends.base import Backend, BackendReply, ChatBackend
from agentfactory.runtime.llm.errors import CommandFailed

class ParrotModelSettings(BaseChatModelSettings):
    kind: Literal["parrot"] = "parrot"
    word: str

class ParrotBackend(Backend):
    name = "parrot"
    capabilities = Capabilities(temperature=True)

    def __init__(self, settings):
        self.secrets = (settings.word,)

    async def stream(self, request, *, live):
        if request.messages[-1].text == "fly":
            raise OSError(f"no wings, says {self.secrets[0]}")
        yield BackendReply(f"{self.secrets[0]} {request.messages[-1].text}", "stop")

    def translate(self, error):
        return CommandFailed(str(error)) if isinstance(error, OSError) else None

BACKEND = ChatBackend(ParrotModelSettings, ParrotBackend, lambda settings: ParrotBackend.capabilities)
"""
IN_PYTHON = """
import asyncio
from pydantic import TypeAdapter
from agentfactory.configs.agents.settings import LlmAgentSettings, model_summary
from agentfactory.configs.chat_models import ChatModelSettings, CommandModelSettings
from agentfactory.messages.chat import UserMessage
from agentfactory.runtime.llm import open_model
from agentfactory.runtime.llm.backends.command import CommandBackend
from agentfactory.runtime.llm.backends import backend_of
from agentfactory.runtime.llm.errors import CommandFailed

settings = TypeAdapter(ChatModelSettings).validate_python({"kind": "parrot", "word": "squawk"})

async def main():
    async with open_model(settings) as model:
        print((await model.chat([UserMessage(text="hi")])).text)
        try:
            await model.chat([UserMessage(text="fly")])
        except CommandFailed as error:
            print(error)

asyncio.run(main())
agent = LlmAgentSettings(model=settings)
assert LlmAgentSettings.model_validate_json(agent.model_dump_json()) == agent
print(model_summary(agent))
print(backend_of(CommandModelSettings(argv=("true",))).open is CommandBackend)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder outside the project that lies on the path as an installed package does."""
    (tmp_path / "parrots.py").write_text(PARROT)
    info = tmp_path / "parrots-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentfactory.chat_backends]\n"
        "parrot = parrots:BACKEND\ncommand = parrots:BACKEND\nextinct = dodos:BACKEND\n"
    )
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_package_can_bring_a_chat_backend_of_its_own(folder: Path) -> None:
    done = python(folder, "-c", IN_PYTHON)
    assert done.returncode == 0, done.stderr
    said, failed, summary, ours = done.stdout.splitlines()
    assert said == "squawk hi"
    assert failed == "no wings, says [key]"
    assert summary == "parrot"
    assert ours == "True"  # ours cannot be taken over


def route(folder: Path, model: dict[str, object], *arguments: str) -> subprocess.CompletedProcess[str]:
    chain = [{"name": "polly", "declared_confidence": 1.0, "model": model}]
    (folder / "chain.yaml").write_text(yaml.safe_dump({"chain": chain}))
    return python(folder, "-m", "agentfactory", "route", "hi", "--models", "chain.yaml", *arguments)


def test_a_backend_from_outside_stands_in_a_chain(folder: Path) -> None:
    done = route(folder, {"kind": "parrot", "word": "squawk"}, "--json")
    assert done.returncode == 0, done.stderr
    assert Routed.model_validate_json(done.stdout).reply.text == "squawk hi"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"kind": "parrot"}, "chain.0.model.word: Field required"),
        ({"kind": "extinct"}, "the chat backend 'extinct' cannot be imported: No module named 'dodos'"),
        ({"kind": "parot"}, "chain.0.model: unknown kind 'parot'"),
    ],
)
def test_wrong_settings_of_such_a_backend_are_told_in_a_sentence(
    folder: Path, model: dict[str, object], sentence: str
) -> None:
    done = route(folder, model)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
