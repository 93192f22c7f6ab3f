"""Let the seed model play whole episodes, many at a time, without any actor or engine.

A small KV-cached sampler and the loop around it: the model writes, simulated tools answer its
calls, the model reads on. Actors do the same through an engine; this one serves the model card
and tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM
from transformers.cache_utils import DynamicCache

from scripts.seed_model.simulated_tools import Call
from scripts.seed_model.tokenizer import EOS_ID, PAD_ID, decode, encode

MAX_TURNS: Final = 4
MAX_TOKENS: Final = 160
"""Characters that one turn may have."""

_CALL: Final = re.compile(r"(?:Thought: [^\n]+\n)?Action: (?P<tool>\w+)\nInput: (?P<text>[^\n]+)")
_ANSWER: Final = re.compile(r"(?:Thought: [^\n]+\n)?Answer: (?P<answer>[^\n]+)")


class Rollout(NamedTuple):
    """One finished episode of the Student."""

    answer: str | None
    """What it answered; None if it never gave a well-formed answer."""
    calls: int
    """How often it used the tool."""
    well_formed: bool
    """Whether every reply was a call or an answer."""
    written: int
    """Characters that the model wrote, `<eos>` left out."""


@torch.no_grad()
def complete(
    model: Qwen2ForCausalLM,
    prompts: Sequence[Sequence[int]],
    generator: torch.Generator,
    max_tokens: int = MAX_TOKENS,
) -> list[list[int]]:
    """Sample one completion for each prompt at temperature 1, `<eos>` included where it came."""
    ids, mask = _pad_left(prompts)
    cache = DynamicCache()
    completions: list[list[int]] = [[] for _ in prompts]
    alive = torch.ones(len(prompts), dtype=torch.bool)
    fed, positions = ids, (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(max_tokens):
        logits = model(
            input_ids=fed,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]  # (B, V)
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)  # (B, 1)
        for row in alive.nonzero().flatten().tolist():
            completions[row].append(int(drawn[row, 0]))
        alive &= drawn[:, 0] != EOS_ID
        if not alive.any():
            break
        fed, positions = drawn, positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(drawn)], dim=1)
    return completions


def rollout(
    model: Qwen2ForCausalLM,
    task_texts: Sequence[str],
    generator: torch.Generator,
    tools: Callable[[], Call],
) -> list[Rollout]:
    """Play one episode for each task text, each with tools of its own."""
    transcripts = [encode(f"Task: {text}\n") for text in task_texts]
    calls = [tools() for _ in task_texts]
    results = [Rollout(answer=None, calls=0, well_formed=True, written=0) for _ in task_texts]
    open_rows = list(range(len(task_texts)))
    for _ in range(MAX_TURNS):
        if not open_rows:
            break
        replies = complete(model, [transcripts[row] for row in open_rows], generator)
        still_open: list[int] = []
        for row, ids in zip(open_rows, replies, strict=True):
            text = decode(ids)
            results[row] = _after_reply(results[row], text, ended=ids[-1] == EOS_ID)
            if call := _CALL.fullmatch(text):
                seen = calls[row](call["tool"], call["text"])
                transcripts[row] += ids + encode(f"\nObservation: {seen}\n")
                still_open.append(row)
        open_rows = still_open
    return results


def _after_reply(before: Rollout, text: str, ended: bool) -> Rollout:
    answer = _ANSWER.fullmatch(text)
    called = _CALL.fullmatch(text) is not None
    return Rollout(
        answer=answer["answer"] if answer else None,
        calls=before.calls + called,
        well_formed=before.well_formed and ended and (called or answer is not None),
        written=before.written + len(text),
    )


def _pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both [B, T]."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), PAD_ID)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask
