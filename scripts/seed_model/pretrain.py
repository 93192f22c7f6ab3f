"""Pretraining: from the corpus to a Qwen2 of about 0.7 M parameters.

The same settings give the same weights on the same machine with the same number of threads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from scripts.seed_model.corpus import CurriculumStage, TrainingExample, examples
from scripts.seed_model.mixture import WRITERS, CorpusName
from scripts.seed_model.tokenizer import EOS_ID, MAX_LENGTH, PAD_ID, VOCABULARY_SIZE

IGNORED: Final = -100
"""The target of a position that carries no loss."""


class TrainingPhase(BaseModel):
    """One pass of training, with optimizers of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: CorpusName = "math"
    steps: int = Field(default=1500, ge=1)
    """Optimizer steps."""
    episodes_per_step: int = Field(default=40, ge=1)
    episodes_per_pass: int = Field(default=10, ge=1)
    """Episodes of like length that go through the model together; a step adds up its passes."""
    muon_rate: float = Field(default=0.02, gt=0)
    """Peak rate of the matrices inside the layers."""
    adam_rate: float = Field(default=3e-3, gt=0)
    """Peak rate of the embedding, the norms and the biases."""
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=0.02, ge=0)
    """Of the matrices inside the layers."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    drill_steps: int = Field(default=400, ge=1)
    """Over this many steps the curriculum goes from its first stage to its last."""
    drill_shares: tuple[float, float] = (1.0, 0.25)
    """Share of drills in the first stage and the last."""
    longest_strings: tuple[int, int] = (12, 24)
    """Characters of the longest string that a drill copies, in the first stage and the last."""


class PretrainConfig(BaseModel):
    """How the seed model is made: it learns to copy, on sums; then all domains at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lessons: tuple[TrainingPhase, ...] = (
        TrainingPhase(),
        TrainingPhase(corpus="mixed", steps=1200, drill_shares=(1.0, 0.15)),
    )
    seed: int = 0
    """Of text and weights."""
    threads: int = Field(default=1, ge=1)


class Progress(NamedTuple):
    """One step of pretraining."""

    loss: float
    """Mean cross-entropy of the taught characters of this step's batch, in nats."""
    taught_tokens: int
    """Characters that carried loss in this step."""


def build_model() -> Qwen2ForCausalLM:
    """A fresh Qwen2: 4 layers, width 128, 4 heads of 32, tied embeddings."""
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.04,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=EOS_ID, pad_token_id=PAD_ID, do_sample=True, temperature=1.0
    )
    return model


def pretrain(
    config: PretrainConfig, report: Callable[[Progress], None], first: Path | None = None
) -> Qwen2ForCausalLM:
    """Train a fresh model, lesson after lesson; `report` hears of every step.

    `first` is a folder with the weights that the first lesson made earlier: it is not repeated then.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    model = build_model() if first is None else Qwen2ForCausalLM.from_pretrained(first)
    model.train()
    for lesson in config.lessons[0 if first is None else 1 :]:
        _teach(model, lesson, random.Random(config.seed), report)
    model.eval()
    return model


def _teach(
    model: Qwen2ForCausalLM, lesson: TrainingPhase, rng: random.Random, report: Callable[[Progress], None]
) -> None:
    optimizers = _optimizers(model, lesson)
    for step in range(1, lesson.steps + 1):
        batch = examples(rng, stage(step, lesson), lesson.episodes_per_step, WRITERS[lesson.corpus])
        loss, taught = accumulate_gradients(model, batch, lesson.episodes_per_pass)
        torch.nn.utils.clip_grad_norm_(model.parameters(), lesson.gradient_norm)
        for optimizer, peak_rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak_rate * rate_scale(step, lesson)
            optimizer.step()
            optimizer.zero_grad()
        report(Progress(loss, taught))


def accumulate_gradients(
    model: Qwen2ForCausalLM, batch: list[TrainingExample], episodes_per_pass: int
) -> tuple[float, int]:
    """Add up the gradient of the batch's mean loss over its taught tokens.

    Every step sees episodes of all lengths, since steps of one length each would pull the weights
    to and fro; within the step, passes of like length save padding. Returns the loss in nats and
    the number of taught tokens.
    """
    by_length = sorted(batch, key=lambda example: len(example.ids))
    taught = sum(sum(example.taught) for example in batch)
    total = 0.0
    for start in range(0, len(by_length), episodes_per_pass):
        ids, targets = collate(by_length[start : start + episodes_per_pass])
        logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
        loss: Tensor = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        torch.autograd.backward(loss / taught)
        total += loss.item()
    return total / taught, taught


def rate_scale(step: int, lesson: TrainingPhase) -> float:
    """Share of the peak rate: a linear warmup, then a half cosine to zero."""
    if step < lesson.warmup_steps:
        return step / lesson.warmup_steps
    done = (step - lesson.warmup_steps) / max(1, lesson.steps - lesson.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * done))


def stage(step: int, lesson: TrainingPhase) -> CurriculumStage:
    """Where the curriculum stands at a step, by linear interpolation."""
    done = min(1.0, step / lesson.drill_steps)
    first, last = lesson.longest_strings
    before, after = lesson.drill_shares
    return CurriculumStage(
        drill_share=before + done * (after - before),
        longest_string=round(first + done * (last - first)),
    )


def collate(group: list[TrainingExample]) -> tuple[Tensor, Tensor]:
    """Pad on the right; `targets[b, t]` is the id that follows position t, if it is taught.

    Padding needs no attention mask: in a causal model nothing before it can see it.
    """
    longest = max(len(example.ids) for example in group)
    ids = torch.full((len(group), longest), PAD_ID)
    targets = torch.full((len(group), longest), IGNORED)
    for row, example in enumerate(group):
        length = len(example.ids)
        sequence = torch.tensor(example.ids)
        ids[row, :length] = sequence
        taught = torch.tensor(example.taught)
        targets[row, : length - 1] = sequence[1:].where(taught[1:], torch.tensor(IGNORED))
    return ids, targets


def _optimizers(model: Qwen2ForCausalLM, lesson: TrainingPhase) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each optimizer with its peak rate: Muon for the layers' matrices, AdamW for all else.

    Muon (Jordan et al. 2024) makes each update orthogonal; here it learns to copy in two thirds
    of the steps that AdamW alone takes.
    """
    embedding = model.get_input_embeddings().weight
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        inside = parameter.ndim == 2 and parameter is not embedding
        (matrices if inside else others).append(parameter)
    muon = torch.optim.Muon(matrices, lr=lesson.muon_rate, weight_decay=lesson.weight_decay)
    adamw = torch.optim.AdamW(others, lr=lesson.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, lesson.muon_rate), (adamw, lesson.adam_rate)]
