"""An engine actor that follows a script, and a model folder with nothing but a tokenizer."""

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path

from agentfactory.configs.data import LIBRARY
from agentfactory.configs.models import ModelSettings, SimulatedEngineSettings
from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.base import Message, Request
from agentfactory.messages.generation import Generate
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.base import AdapterStoreFactory
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.simulated import ScriptedEngine
from agentfactory.training.tasks.data_tasks import format_data_task, parse_data_task, sample_data_task
from agentfactory.training.tasks.documents import read_library
from scripts.seed_model.tokenizer import save_tokenizer

_numbers = itertools.count(11)

Script = Callable[[str, str | None], str]
"""From the prompt's text and the adapter's name to the reply."""


class Seen(Message):
    """What the engine was asked."""

    requests: tuple[Generate, ...]
    ended_sessions: tuple[str, ...]
    asleep: bool = False


class WhatWasSeen(Request[Seen]):
    """Ask a scripted engine what it was asked."""


class ScriptedInference(InferenceEngine):
    """Follows a script instead of a model."""

    def __init__(
        self,
        model: ModelSettings,
        script: Script,
        seconds_per_request: float = 0.0,
        open_adapter_store: AdapterStoreFactory | None = None,
    ) -> None:
        super().__init__(model, SimulatedEngineSettings(), open_adapter_store)
        chat = ChatFormat.load(model.locate())
        self._scripted = ScriptedEngine(
            lambda prompt, adapter: script(chat.decode(prompt), adapter), chat, seconds_per_request
        )
        self._engine = self._scripted

    async def start(self) -> None:
        await super().start()
        for version in range(1, 6):
            adapter = AdapterRef(policy="student", version=version)
            await self._engine.load_adapter(LoadAdapter(adapter=adapter, config_json=b"", weights=b""))

    async def what_was_seen(self, message: WhatWasSeen) -> Seen:
        scripted = self._scripted
        return Seen(
            requests=tuple(scripted.seen),
            ended_sessions=tuple(scripted.ended_sessions),
            asleep=scripted.asleep,
        )


def model_folder(folder: Path) -> ModelSettings:
    """A model that only its tokenizer is needed of."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(folder)
    (folder / "config.json").write_text("{}")
    return ModelSettings(source=str(folder))


def use_the_tool(prompt: str, adapter: str | None = None) -> str:
    """A Student that always computes with the tool, and a Teacher that never repeats itself."""
    if "Propose a" in prompt:
        return f"Task: Compute {next(_numbers)}+1."
    seen = re.findall(r"Observation: (\S+)", prompt)
    if seen:
        return f"Answer: {seen[-1]}"
    found = re.search(r"Compute (\S+)\.|What is (\S+)\?|(\d\S*\d)", prompt)
    expression = next(filter(None, found.groups())) if found else "0"
    return f"Thought: Use python.\nAction: python\nInput: print({expression})"


class DoesErrands:
    """A Student that does each errand of the data domain to the letter, and a Teacher that proposes them."""

    def __init__(self) -> None:
        self._library = read_library(LIBRARY)
        self._random = random.Random(0)

    def __call__(self, prompt: str, adapter: str | None = None) -> str:
        if "Propose a data task" in prompt:
            errand = sample_data_task(self._random, self._library, self._random.random())
            return f"Task: {format_data_task(self._random, errand)}"
        task, *seen = re.split(r"\nObservation: ", prompt.rpartition("Task: ")[2].strip())
        found = parse_data_task(task.splitlines()[0], self._library)
        assert found is not None, task
        if len(seen) < len(found.loads):
            load = found.loads[len(seen)]
            source = f"file::{load.folder}/{load.file}" if load.file else f"folder::{load.folder}"
            return f"Thought: Load it.\nAction: assimilate\nInput: {source} as {load.tag}"
        if not found.asked[1]:
            return f"Answer: {seen[0].split()[1]}"
        if len(seen) == len(found.loads):
            return f"Action: retrieve\nInput: {found.tag}/{found.asked[1]}"
        return f"Answer: {seen[-1].splitlines()[0]}"
