"""Models without a network: programs, our own engines, and GGUF files."""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from agentfactory.configs.chat_models import CommandModelSettings, EngineModelSettings, LlamaCppModelSettings
from agentfactory.configs.errors import SettingsError
from agentfactory.configs.models import SEED_MODEL, SimulatedEngineSettings, TransformersEngineSettings
from agentfactory.messages.chat import (
    AssistantMessage,
    ChatRequest,
    FunctionSpec,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from agentfactory.messages.generation import SamplingSettings
from agentfactory.runtime.engines.chat.format import ChatFormat
from agentfactory.runtime.engines.simulated import ScriptedEngine
from agentfactory.runtime.llm import ChatModel, open_model
from agentfactory.runtime.llm.backends.engine import EngineBackend
from agentfactory.runtime.llm.errors import (
    BrokenReply,
    CommandFailed,
    ContextTooLong,
    ModelTimeout,
    RequestRefused,
    Unsupported,
)

HI = [UserMessage(text="hi")]


def program(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "program.py").write_text(textwrap.dedent(text))
    return (sys.executable, "program.py")


def command(folder: Path, text: str, *arguments: str, **settings: object) -> ChatModel:
    values = {"argv": (*program(folder, text), *arguments), "folder": str(folder), "retry": {"attempts": 1}}
    return open_model(CommandModelSettings.model_validate(values | settings))


ECHO = "import sys; print(sys.stdin.read() + '|' + '|'.join(sys.argv[1:]))"


async def test_a_program_reads_its_prompt_from_stdin(tmp_path: Path) -> None:
    async with command(tmp_path, ECHO) as model:
        reply = await model.chat([SystemMessage(text="Be brief."), *HI])
    assert reply.text == "Be brief.\n\nhi|"
    assert reply.usage.estimated


async def test_a_program_gets_what_its_arguments_have_a_place_for(tmp_path: Path) -> None:
    arguments = ("--system", "{system}", "--ask={prompt}", "{temperature}", "{max_tokens}", "{model}")
    async with command(tmp_path, ECHO, *arguments, model="m") as model:
        request = [SystemMessage(text="Say {prompt}."), *HI]
        reply = await model.chat(request, SamplingSettings(temperature=0.5, max_tokens=7))
    assert reply.text == "|--system|Say {prompt}.|--ask=hi|0.5|7|m"


async def test_a_conversation_is_written_with_who_said_what(tmp_path: Path) -> None:
    async with command(tmp_path, ECHO) as model:
        reply = await model.chat([*HI, AssistantMessage(text="hello"), UserMessage(text="bye")])
    assert reply.text == "User: hi\n\nAssistant: hello\n\nUser: bye\n\nAssistant:|"


async def test_json_output_gives_text_and_usage(tmp_path: Path) -> None:
    text = """
    import json
    usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3, "service_tier": "x"}
    print(json.dumps({"type": "result", "is_error": False, "result": "four", "usage": usage}))
    """
    async with command(tmp_path, text, output="json", prices={"prompt": 1, "completion": 1}) as model:
        reply = await model.chat(HI)
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("four", 7, 3)
    assert reply.cost == pytest.approx(10e-6)


@pytest.mark.parametrize(
    ("output", "problem"), [("nothing", "not JSON"), ('{"a": 1}', "no text under 'result'")]
)
async def test_output_of_another_form_is_a_broken_reply(tmp_path: Path, output: str, problem: str) -> None:
    async with command(tmp_path, f"print({output!r})", output="json") as model:
        with pytest.raises(BrokenReply, match=problem):
            await model.chat(HI)


async def test_an_error_in_json_output_is_an_error(tmp_path: Path) -> None:
    text = """print('{"result": "Invalid login", "is_error": true}')"""
    async with command(tmp_path, text, output="json") as model:
        with pytest.raises(CommandFailed, match="Invalid login"):
            await model.chat(HI)


async def test_a_failing_program_is_an_error_with_its_last_line_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRAM_KEY", "sk-program-key")
    text = """
    import os, sys
    print("first", file=sys.stderr)
    sys.exit("refused: " + os.environ["PROGRAM_KEY"])
    """
    async with command(tmp_path, text, environment=("PROGRAM_KEY",)) as model:
        with pytest.raises(CommandFailed, match=r"status 1: refused: \[key\]$"):
            await model.chat(HI)


async def test_a_program_sees_only_the_variables_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGRAM_KEY", "sk-program-key")
    text = "import os; print('PROGRAM_KEY' in os.environ, 'PATH' in os.environ)"
    async with command(tmp_path, text) as model:
        assert (await model.chat(HI)).text == "False True"


async def test_a_program_that_writes_without_end_is_stopped(tmp_path: Path) -> None:
    async with command(tmp_path, "while True: print('x' * 1000)", max_output_kb=64) as model:
        with pytest.raises(CommandFailed, match="more than 64 KB"):
            await model.chat(HI)


NEVER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("pids.part", "w").write(f"{os.getpid()} {child.pid}")
os.rename("pids.part", "pids")
child.wait()
"""


async def pids_of(folder: Path) -> list[int]:
    """Of the program and its child, once both run."""
    while not (folder / "pids").exists():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


async def gone(pid: int) -> None:
    while alive(pid):  # noqa: ASYNC110 - the kernel takes it away
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    async with command(tmp_path, NEVER, timeout_s=2.0) as model:
        with pytest.raises(ModelTimeout, match="timeout_s"):
            await model.chat(HI)
        for pid in await pids_of(tmp_path):
            await gone(pid)


async def test_a_program_whose_caller_gives_up_is_killed_with_its_children(tmp_path: Path) -> None:
    async with command(tmp_path, NEVER) as model:
        call = asyncio.create_task(model.chat(HI))
        pids = await pids_of(tmp_path)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        for pid in pids:
            await gone(pid)


async def test_a_program_need_not_read_its_prompt(tmp_path: Path) -> None:
    async with command(tmp_path, "print('done')") as model:
        assert (await model.chat([UserMessage(text="x" * 1_000_000)])).text == "done"


async def test_a_program_cannot_be_asked_for_a_seed_or_for_pieces(tmp_path: Path) -> None:
    async with command(tmp_path, ECHO) as model:
        with pytest.raises(Unsupported, match="seed, stop"):
            await model.chat(HI, SamplingSettings(seed=1, stop=("x",)))
        with pytest.raises(Unsupported, match="streaming"):
            async with model.stream(HI):
                pass


def test_a_program_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no program 'no-such-program'"):
        open_model(CommandModelSettings(argv=("no-such-program",)))
    with pytest.raises(SettingsError, match="there is no folder"):
        open_model(CommandModelSettings(argv=("cat",), folder=str(tmp_path / "none")))


@pytest.fixture(scope="module")
def seed() -> ChatFormat:
    return ChatFormat.load(SEED_MODEL)


async def test_the_seed_model_chats_through_its_template() -> None:
    settings = EngineModelSettings(engine=TransformersEngineSettings(max_context=512))
    request = ChatRequest(
        messages=(UserMessage(text="Task: 2+2"),),
        sampling=SamplingSettings(temperature=0.0, max_tokens=24),
        logprobs=True,
    )
    async with open_model(settings) as model:
        reply = await model.ask(request)
        again = await model.chat(request.messages, request.sampling)
    assert reply.text
    assert reply.text == again.text
    assert len(reply.tokens) == reply.usage.completion_tokens
    assert all(token.token_id is not None and token.logprob <= 0.0 for token in reply.tokens)
    assert not again.tokens


async def test_an_engine_of_somebody_elses_is_spoken_to_and_left_open(seed: ChatFormat) -> None:
    engine = ScriptedEngine(["four\nTask: next", "five"], seed)
    async with ChatModel(EngineModelSettings(), EngineBackend(engine, seed, owned=False)) as model:
        reply = await model.chat(HI, SamplingSettings(stop=("\nTask:",)))
        assert reply.text == "four"
    assert engine.seen[0].prompt_ids[: len(seed.encode("hi"))] != ()
    second = ChatModel(EngineModelSettings(), EngineBackend(engine, seed, owned=False))
    async with second as model:
        assert (await model.chat(HI)).text == "five"


async def test_an_engine_is_heard_while_it_writes() -> None:
    settings = EngineModelSettings(engine=TransformersEngineSettings(max_context=512))
    asked = [UserMessage(text="Task: 12*34")]
    sampling = SamplingSettings(temperature=0.0, max_tokens=40)
    async with open_model(settings) as model:
        async with model.stream(asked, sampling) as stream:
            pieces = [piece async for piece in stream]
        assert len(pieces) > 1
        assert "".join(pieces) == stream.reply.text == (await model.chat(asked, sampling)).text


async def test_an_engine_whose_template_has_a_place_for_functions_calls_them(tmp_path: Path) -> None:
    shutil.copytree(SEED_MODEL, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}\n{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    chat = ChatFormat.load(tmp_path)
    call = '<tool_call>\n{"name": "weather", "arguments": {"town": "Oslo"}}\n</tool_call>'
    engine = ScriptedEngine([f"Let me look.\n{call}", "It rains."], chat)
    weather = FunctionSpec(name="weather", description="the weather of a town")
    async with ChatModel(EngineModelSettings(), EngineBackend(engine, chat, owned=False)) as model:
        reply = await model.chat(HI, tools=[weather])
        assert reply.text.strip() == "Let me look."
        assert [(c.name, c.arguments) for c in reply.calls] == [("weather", '{"town": "Oslo"}')]
        assert reply.finish_reason == "calls"
        told = ToolMessage(call_id=reply.calls[0].id, name="weather", text="rain")
        said = AssistantMessage(text=reply.text, calls=reply.calls)
        assert (await model.chat([*HI, said, told], tools=[weather])).text == "It rains."
    prompts = [chat.decode(request.prompt_ids) for request in engine.seen]
    assert "weather" in prompts[0]
    assert "rain" in prompts[1]


async def test_an_engines_context_is_counted_in_its_own_tokens() -> None:
    engine = TransformersEngineSettings(max_context=128)
    async with open_model(EngineModelSettings(engine=engine)) as model:
        talk = [UserMessage(text="x" * 60), AssistantMessage(text="y" * 60), UserMessage(text="Task: 1+1")]
        reply = await model.chat(talk, SamplingSettings(max_tokens=16))
        assert reply.dropped_messages == 2
        with pytest.raises(ContextTooLong):
            await model.chat([UserMessage(text="x" * 600)], SamplingSettings(max_tokens=16))


async def test_an_engine_refuses_an_adapter_that_it_does_not_have() -> None:
    settings = EngineModelSettings(engine=SimulatedEngineSettings())
    async with open_model(settings) as model:
        assert (await model.chat(HI)).text == "Answer: 0"
        with pytest.raises(RequestRefused, match="adapter 'student-3' is not loaded"):
            await model.ask(ChatRequest(messages=tuple(HI), adapter="student-3"))
        with pytest.raises(Unsupported, match="tools"):
            await model.chat(HI, tools=[FunctionSpec(name="f")])


class _Llama:
    """Stands in for llama_cpp.Llama: chunks of the same shape, made in the calling thread."""

    threads: set[int] = set()  # noqa: RUF012
    closed = threading.Event()

    def __init__(self, **arguments: object) -> None:
        self.arguments = arguments

    def create_chat_completion(self, **body: object) -> Iterator[dict[str, object]]:
        if body["messages"] == [{"role": "user", "content": "too long"}]:
            raise ValueError("Requested tokens (999) exceed context window of 64")
        return self._chunks(endless=body["messages"] == [{"role": "user", "content": "count"}])

    def _chunks(self, endless: bool) -> Iterator[dict[str, object]]:
        _Llama.threads.add(threading.get_ident())
        number = 0
        try:
            while endless or number < 3:
                number += 1
                yield {"model": "f", "choices": [{"delta": {"content": f"{number} "}, "finish_reason": None}]}
        finally:
            _Llama.closed.set()
        yield {"model": "f", "choices": [{"delta": {}, "finish_reason": "stop"}]}

    def close(self) -> None: ...


@pytest.fixture
async def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ChatModel]:
    library = ModuleType("llama_cpp")
    library.__spec__ = ModuleSpec("llama_cpp", None)
    library.Llama = _Llama  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    (tmp_path / "f.gguf").write_bytes(b"GGUF")
    async with open_model(LlamaCppModelSettings(file=str(tmp_path / "f.gguf"))) as model:
        yield model


async def test_llama_cpp_computes_beside_the_event_loop(gguf: ChatModel) -> None:
    replies = await asyncio.gather(*(gguf.chat(HI) for _ in range(3)))
    assert [reply.text for reply in replies] == ["1 2 3 "] * 3
    assert threading.get_ident() not in _Llama.threads


async def test_llama_cpp_stops_when_nobody_listens_and_serves_the_next(gguf: ChatModel) -> None:
    _Llama.closed.clear()
    async with gguf.stream([UserMessage(text="count")]) as stream:
        assert await anext(stream) == "1 "
    assert await asyncio.to_thread(_Llama.closed.wait, 30)
    assert (await gguf.chat(HI)).text == "1 2 3 "


async def test_llama_cpp_says_when_the_context_is_too_short(gguf: ChatModel) -> None:
    with pytest.raises(ContextTooLong, match="exceed context window"):
        await gguf.chat([UserMessage(text="too long")])


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="needs llama-cpp-python")
async def test_llama_cpp_itself_refuses_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "f.gguf").write_bytes(b"GGUF, but no more")
    with pytest.raises(SettingsError, match="cannot load this file"):
        async with open_model(LlamaCppModelSettings(file=str(tmp_path / "f.gguf"))):
            pass


@pytest.mark.skipif("GGUF_MODEL" not in os.environ, reason="needs llama-cpp-python and a model in GGUF_MODEL")
async def test_llama_cpp_itself_answers() -> None:
    settings = LlamaCppModelSettings(file=os.environ["GGUF_MODEL"], context_tokens=512)
    async with open_model(settings) as model:
        reply = await model.chat(HI, SamplingSettings(max_tokens=8, temperature=0.0))
    assert reply.text


def test_a_gguf_file_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match=r"no model file|pip install"):
        open_model(LlamaCppModelSettings(file="none.gguf"))
