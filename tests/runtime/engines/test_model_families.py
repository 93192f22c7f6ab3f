"""Adapter runners over several model families: the same tokens as transformers' own generate, greedily."""

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OlmoConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.runtime.engines.base import EngineFailed
from agentfactory.runtime.engines.batching.adapter_runner import AdapterRunner
from agentfactory.runtime.engines.batching.base_model import NAME, probe
from agentfactory.runtime.engines.batching.kv_cache import KvCacheLayout
from agentfactory.runtime.engines.batching.sequence import SequenceState
from agentfactory.runtime.engines.lora import Lora, attach_lora, merge_lora, read_adapter

SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen2-mha": lambda: Qwen2Config(**SIZE, num_key_value_heads=4),
    "qwen2-mqa": lambda: Qwen2Config(**SIZE, num_key_value_heads=1),
    "qwen2-sliding": lambda: Qwen2Config(
        **SIZE, num_key_value_heads=2, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
    "qwen3": lambda: Qwen3Config(**SIZE, num_key_value_heads=2, head_dim=16),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **SIZE,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
    ),
    "llama": lambda: LlamaConfig(**SIZE, num_key_value_heads=2),
    "mistral-sliding": lambda: MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=16),
    "phi3": lambda: Phi3Config(**SIZE, num_key_value_heads=2),
    "olmo": lambda: OlmoConfig(**SIZE),
    "gemma3": lambda: Gemma3TextConfig(**SIZE, num_key_value_heads=2, head_dim=8, sliding_window=16),
    "gpt2": lambda: GPT2Config(
        vocab_size=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    ),
}


def build(config: PreTrainedConfig) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model on our attention, and its twin on transformers' own."""
    torch.manual_seed(1)
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME).eval()
    model.load_state_dict(twin.state_dict())
    return model, twin


def start(prompt: tuple[int, ...], max_tokens: int) -> SequenceState:
    sampling = SamplingSettings(temperature=0.0, max_tokens=max_tokens)
    return SequenceState.of(Generate(request_id="r", prompt_ids=prompt, sampling=sampling), answer=None)  # type: ignore[arg-type]


def greedy(twin: PreTrainedModel, row: SequenceState) -> list[int]:
    prompt = torch.tensor([row.request.prompt_ids])
    out = twin.generate(  # type: ignore[operator]
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=row.request.sampling.max_tokens,
        do_sample=False,
    )
    return out[0, prompt.shape[1] :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_runner_generates_what_generate_does(family: str) -> None:
    model, twin = build(FAMILIES[family]())
    runner = AdapterRunner("", model, KvCacheLayout(probe(model), model.dtype, model.device), max_context=512)
    rng = random.Random(0)
    lengths = [(1, 4), (3, 20), (60, 12), (40, 30), (95, 8), (17, 17), (130, 5)] + [(9, 25)] * 8
    rows = [start(tuple(rng.randrange(2, 64) for _ in range(p)), n) for p, n in lengths]
    waiting, done = list(rows), 0
    while done < len(rows):
        runner.begin_step()
        for row in waiting[:2]:
            runner.join(row)
        waiting = waiting[2:]
        for row, _ in runner.step():
            if len(row.sampled) == row.request.sampling.max_tokens:
                row.bucket.free(row)  # type: ignore[union-attr]
                done += 1
    assert runner.active == 0
    assert [row.sampled for row in rows] == [greedy(twin, row) for row in rows]


@pytest.mark.parametrize(
    "config",
    [Gemma2Config(**SIZE, num_key_value_heads=2, head_dim=8), MambaConfig(vocab_size=64, hidden_size=32)],
    ids=["gemma2", "mamba"],
)
def test_a_family_that_cannot_be_served_is_refused(config: PreTrainedConfig) -> None:
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME)
    except ValueError:  # transformers itself refuses
        return
    with pytest.raises(EngineFailed, match="use vLLM"):
        probe(model)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft calls it
@pytest.mark.parametrize("build_adapted", [merge_lora, attach_lora])
def test_merged_and_layered_adapters_both_answer_as_peft_does_and_leave_the_base_alone(
    build_adapted: Callable[[PreTrainedModel, Lora], PreTrainedModel], tmp_path: Path
) -> None:
    base, twin = build(FAMILIES["llama"]())
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    wrapped = get_peft_model(
        twin, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj", "up_proj"])
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path)
    load = LoadAdapter(
        adapter=AdapterRef(policy="student", version=1),
        config_json=(tmp_path / "adapter_config.json").read_bytes(),
        weights=(tmp_path / "adapter_model.safetensors").read_bytes(),
    )
    with torch.inference_mode():
        adapted = build_adapted(base, read_adapter(load, base, "any"))
        adapted.set_attn_implementation("eager")
        tokens = torch.arange(1, 30).unsqueeze(0)
        assert torch.allclose(adapted(tokens).logits, wrapped.eval()(tokens).logits, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())
    shared = {tensor.data_ptr() for tensor in base.state_dict().values()}
    own = [name for name, tensor in adapted.named_parameters() if tensor.data_ptr() not in shared]
    assert own
    assert all("lora" in name or "q_proj" in name or "up_proj" in name for name in own)
