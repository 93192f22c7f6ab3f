"""A small Qwen2 with random weights, its adapters, and what transformers and peft themselves make of them."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.generation import Completion, Generate, SamplingSettings
from scripts.seed_model.tokenizer import EOS_ID, encode, save_tokenizer

LIMIT_S = 180.0
VOCABULARY_SIZE = 98
"""`<pad>`, `<eos>` and the printable characters, so that every sample can be read."""
T = TypeVar("T")
ids = itertools.count()


class Model(NamedTuple):
    """A model folder, and the same model with transformers' own attention."""

    folder: Path
    reference: Qwen2ForCausalLM


def make_model(folder: Path, heads: int = 4) -> Model:
    """A small Qwen2 with random weights."""
    save_tokenizer(folder)
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=512,
        initializer_range=0.2,
        eos_token_id=EOS_ID,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return Model(folder, Qwen2ForCausalLM.from_pretrained(folder).eval())


async def limited(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, LIMIT_S)


def request(
    prompt: str | tuple[int, ...],
    *,
    adapter: str | None = None,
    session: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 24,
    stop: tuple[str, ...] = (),
    seed: int | None = None,
) -> Generate:
    return Generate(
        request_id=f"r{next(ids)}",
        prompt_ids=tuple(encode(prompt)) if isinstance(prompt, str) else prompt,
        sampling=SamplingSettings(temperature=temperature, max_tokens=max_tokens, stop=stop, seed=seed),
        adapter=adapter,
        session=session,
    )


def random_prompt(rng: random.Random, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(2, VOCABULARY_SIZE) for _ in range(length))


def greedy(reference: torch.nn.Module, asked: Generate) -> tuple[int, ...]:
    prompt = torch.tensor([asked.prompt_ids])
    out = reference.generate(  # type: ignore[operator]
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=asked.sampling.max_tokens,
        do_sample=False,
        eos_token_id=EOS_ID,
        pad_token_id=0,
    )
    return tuple(out[0, prompt.shape[1] :].tolist())


@torch.inference_mode()
def logprobs(reference: torch.nn.Module, asked: Generate, got: Completion) -> list[float]:
    tokens = torch.tensor([asked.prompt_ids + got.token_ids])
    logp = reference(input_ids=tokens).logits.log_softmax(-1)[0, len(asked.prompt_ids) - 1 : -1]
    return logp.gather(1, torch.tensor(got.token_ids).unsqueeze(1)).squeeze(1).tolist()  # type: ignore[no-any-return]


class Adapter(NamedTuple):
    """An adapter with random weights, as the Trainer would send it, and peft's own model of it."""

    load: LoadAdapter
    reference: PeftModel


def make_adapter(model: Model, folder: Path, version: int = 1, **config: object) -> Adapter:
    torch.manual_seed(version)
    base = Qwen2ForCausalLM.from_pretrained(model.folder).eval()
    fields = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **config}
    wrapped = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **fields))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    wrapped.save_pretrained(folder)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    ref = AdapterRef(policy="student", version=version, sha256=hashlib.sha256(weights).hexdigest())
    config_json = (folder / "adapter_config.json").read_bytes()
    return Adapter(LoadAdapter(adapter=ref, config_json=config_json, weights=weights), wrapped.eval())
