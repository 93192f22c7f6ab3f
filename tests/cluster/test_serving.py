"""`agentfactory serve` through OpenAI's own client: the seed model, a run's adapters, real processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import torch
from openai import OpenAI
from peft import LoraConfig, get_peft_model
from transformers import Qwen2ForCausalLM

from agentfactory.actors.coordinator.journal import Journal
from agentfactory.cluster.run_folder import JOURNAL, create_run_folder, newest_versions
from agentfactory.cluster.serving.request_schema import CompletionBody
from agentfactory.cluster.serving.server import ServingPlan, opened
from agentfactory.configs.http_servers import ServingSettings
from agentfactory.configs.load import load_settings
from agentfactory.configs.models import SEED_MODEL, ModelSettings, TransformersEngineSettings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.runs import StepFinished
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.adapter_files import WEIGHTS_FILE, adapter_folder, sha256_hex
from scripts.seed_model.tokenizer import encode
from tests.agentfactory.test_cli import command, refused
from tests.cluster.http_serving import asking

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
LIMIT_S = 180
PLAIN = {"temperature": 0.0, "max_tokens": 40}


def make_run(folder: Path, versions: int = 3) -> Path:
    """A run's folder with random adapters for the seed model, and what its journal says of them."""
    create_run_folder(load_settings("laptop"), folder)
    journal = Journal(folder / JOURNAL)
    for version in range(1, versions + 1):
        torch.manual_seed(version)
        base = Qwen2ForCausalLM.from_pretrained(SEED_MODEL)
        adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"]))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        path = adapter_folder(folder, "student", version)
        adapted.save_pretrained(path)
        sha256 = sha256_hex((path / WEIGHTS_FILE).read_bytes())
        journal.append(step(AdapterRef(policy="student", version=version, sha256=sha256)))
    journal.close()
    return folder


def step(adapter: AdapterRef) -> StepFinished:
    return StepFinished(
        policy=adapter.policy,
        adapter=adapter,
        group_ids=(),
        loss=0.0,
        kl_to_base=0.0,
        clip_fraction=0.0,
        entropy=0.0,
        grad_norm=0.0,
        tokens=0,
        train_s=0.0,
        at=0.0,
    )


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A server process, and where it is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("AGENTFACTORY_API_KEY", None)
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments), stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("serving "):
            return process, line.split(" on ")[1].strip()
    raise AssertionError(f"it ended with {process.wait(LIMIT_S)}")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("serving") / "run")


@pytest.fixture(scope="module")
def client(run_dir: Path) -> Iterator[OpenAI]:
    process, url = start("--adapter", str(run_dir), "--versions", "2")
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=LIMIT_S) as client:
        yield client
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_the_base_and_the_newest_versions_of_a_run_are_models(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:3] == ["seed", "student-v2", "student-v3"]
    assert client.models.retrieve("student-v3").id == "student-v3"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("student-v1")


def test_a_chat_is_answered_and_counted(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="seed", messages=asking(), **PLAIN)  # type: ignore[call-overload]
    (choice,) = reply.choices
    assert "Thought:" in choice.message.content
    assert choice.finish_reason == "stop"
    assert reply.usage.prompt_tokens == len("Task: What is 2+2?\n")
    assert reply.usage.completion_tokens == len(choice.message.content) + 1  # a token a character, and eos
    assert reply.model == "seed"


def test_a_version_of_the_run_answers_in_its_own_way(client: OpenAI) -> None:
    def chances(name: str) -> tuple[float, ...]:
        reply = client.completions.create(model=name, prompt="Task: What is 2+2?\n", logprobs=0, **PLAIN)  # type: ignore[call-overload]
        assert reply.model == name
        return tuple(reply.choices[0].logprobs.token_logprobs)

    assert len({chances(name) for name in ("seed", "student-v2", "student-v3")}) == 3


def test_a_stream_put_together_is_the_whole_reply(client: OpenAI) -> None:
    asked = {"model": "seed", "messages": asking("Task: What is 12*(7+5)?"), **PLAIN, "logprobs": True}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    )
    *said, last = chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in said)
    assert text == whole.choices[0].message.content
    tokens = [token for chunk in said for token in (chunk.choices[0].logprobs or Empty).content]
    assert [token.model_dump() for token in tokens] == [
        token.model_dump() for token in whole.choices[0].logprobs.content
    ]
    assert said[0].choices[0].delta.role == "assistant"
    assert said[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage.model_dump() == whole.usage.model_dump()
    assert len(said) > 4


class Empty:
    content = ()


def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(client: OpenAI) -> None:
    asked = {"model": "seed", "messages": asking(), **PLAIN, "stop": ["know", "no such"]}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == "Thought: I "
    assert whole.choices[0].finish_reason == "stop"
    chunks = client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Thought: I "


def test_a_seed_fixes_the_sample(client: OpenAI) -> None:
    def sample(seed: int) -> str:
        reply = client.completions.create(
            model="seed", prompt="Task: What is 3*4?\n", temperature=1.5, max_tokens=30, seed=seed
        )
        return reply.choices[0].text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(5)}) > 1


def test_prompts_come_as_texts_or_tokens_one_or_several(client: OpenAI) -> None:
    text = "Task: What is 2+2?\n"
    tokens = encode(text)
    single = client.completions.create(model="seed", prompt=text, **PLAIN)  # type: ignore[call-overload]
    as_tokens = client.completions.create(model="seed", prompt=tokens, **PLAIN)  # type: ignore[call-overload]
    several = client.completions.create(model="seed", prompt=[text, text], logprobs=0, **PLAIN)  # type: ignore[call-overload]
    assert as_tokens.usage.prompt_tokens == single.usage.prompt_tokens
    assert [choice.index for choice in several.choices] == [0, 1]
    assert {choice.text for choice in several.choices} == {single.choices[0].text}
    logprobs = several.choices[0].logprobs
    assert "".join(logprobs.tokens) == several.choices[0].text
    assert all(value <= 0 for value in logprobs.token_logprobs)
    assert several.usage.prompt_tokens == 2 * single.usage.prompt_tokens


def test_a_completion_streams_as_well(client: OpenAI) -> None:
    asked = {"model": "student-v3", "prompt": "Task: What is 2+2?\n", **PLAIN}
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    chunks = list(client.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_texts_become_unit_vectors_in_both_encodings(client: OpenAI) -> None:
    embedder = list(client.models.list())[-1].id
    packed = client.embeddings.create(model=embedder, input=["a cat", "a cat", "an engine"])
    plain = client.embeddings.create(model=embedder, input="a cat", encoding_format="float")
    first, second, third = (item.embedding for item in packed.data)
    assert first == second != third
    assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-4)
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
            "response_format",
        ),
        ({"n": 129}, "n"),
        ({"top_logprobs": 3, "logprobs": True}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 3.0}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"extra_body": {"guided_regex": "a+"}}, "guided_regex"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    client: OpenAI, more: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model="seed", messages=asking(), **more)  # type: ignore[call-overload]
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"
    assert param in refusal.value.body["message"]  # type: ignore[index]


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="student-v2, student-v3") as refusal:
        client.chat.completions.create(model="student-v9", messages=asking())  # type: ignore[arg-type]
    assert refusal.value.code == "model_not_found"


def test_a_prompt_that_is_too_long_says_so_even_where_a_stream_was_asked_for(client: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model="seed", messages=asking("x" * 600), stream=stream)  # type: ignore[call-overload]
        assert refusal.value.code == "context_length_exceeded"


def test_a_signal_ends_the_server_in_order(tmp_path: Path) -> None:
    process, url = start("--engine", "simulated")
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=LIMIT_S) as client:
        reply = client.chat.completions.create(model="seed", messages=asking())  # type: ignore[arg-type]
    assert reply.choices[0].message.content == "Answer: 0"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, rest) == (0, "")


def test_input_that_cannot_be_served_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTFACTORY_API_KEY", raising=False)
    assert "AGENTFACTORY_API_KEY" in refused("serve", "--host", "0.0.0.0")
    assert "no such run folder" in refused("serve", "--adapter", str(tmp_path / "none"))
    assert "no model folder" in refused("serve", "--model", "nowhere")
    assert "port" in refused("serve", "--port", "70000")


def test_only_versions_that_the_journal_knows_and_the_folder_has_are_served(run_dir: Path) -> None:
    assert [adapter.version for adapter in newest_versions(run_dir, 2)] == [2, 3]
    assert [adapter.version for adapter in newest_versions(run_dir, 9)] == [1, 2, 3]


def test_an_engine_that_was_restarted_gets_its_adapters_again(run_dir: Path) -> None:
    async def main() -> tuple[str, str]:
        plan = ServingPlan(
            ModelSettings(), TransformersEngineSettings(), ServingSettings(embedder="ngrams"), run_dir
        )
        body = CompletionBody.model_validate({"model": "student-v3", "prompt": "Task: 1+1\n", **PLAIN})
        prompt = tuple(token for token in range(40, 60))
        async with ActorSystem.open("local", backoff_s=0.0) as system, opened(system, plan) as service:
            before = await service.write_whole("student-v3", prompt, body.sampling)
            await system.kill("engine-0")
            after = await service.write_whole("student-v3", prompt, body.sampling)
            return before.text, after.text

    before, after = asyncio.run(main())
    assert before == after
