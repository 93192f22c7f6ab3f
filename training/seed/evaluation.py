"""What the seed model can do before any reinforcement learning, measured by sampling."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from pydantic import BaseModel, ConfigDict
from transformers import Qwen2ForCausalLM

from training.seed.corpus import PROPOSAL_REQUEST
from training.seed.sampling import Played, complete, play
from training.seed.tokenizer import EOS_ID, decode, encode
from training.tasks.arithmetic import (
    HeldOutTask,
    estimate_difficulty,
    find_expression,
    held_out_tasks,
)

TASK_PREFIX = "Task: "


class StudentReport(BaseModel):
    """How the model solves held-out tasks, sampled at temperature 1; shares lie in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    episodes: int
    pass_at_1: float
    tool_share: float
    """Episodes that called the tool at least once."""
    tool_accuracy: float
    """Share of those that ended with the right answer."""
    hard_tool_accuracy: float
    """The same for tasks of difficulty 0.8 and above."""
    head_accuracy: float
    """Share right of the episodes that never called the tool."""
    well_formed: float
    tool_characters: float
    """Mean characters written in an episode with the tool."""


class TeacherReport(BaseModel):
    """What the model proposes when it is asked for a difficulty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proposals: int
    """Proposals for each difficulty asked for."""
    well_formed: float
    """Share in which one well-formed expression is found."""
    distinct: float
    """Share of distinct expressions at difficulty 0.3."""
    difficulty: dict[float, float]
    """Mean measured difficulty, by the difficulty asked for."""


def examine_student(
    model: Qwen2ForCausalLM, tasks: int = 400, samples: int = 4, seed: int = 0
) -> StudentReport:
    """Sample `samples` episodes for each of `tasks` held-out tasks."""
    generator = torch.Generator().manual_seed(seed)
    chosen = held_out_tasks(tasks, seed=0)
    pairs: list[tuple[HeldOutTask, Played]] = []
    for _ in range(samples):
        pairs += zip(chosen, play(model, [task.text for task in chosen], generator), strict=True)
    used = [(task, played) for task, played in pairs if played.calls]
    from_head = [(task, played) for task, played in pairs if not played.calls]
    return StudentReport(
        episodes=len(pairs),
        pass_at_1=_accuracy(pairs),
        tool_share=len(used) / len(pairs),
        tool_accuracy=_accuracy(used),
        hard_tool_accuracy=_accuracy([pair for pair in used if pair[0].difficulty >= 0.8]),
        head_accuracy=_accuracy(from_head),
        well_formed=fmean(played.well_formed for _, played in pairs),
        tool_characters=fmean(played.written for _, played in used) if used else 0.0,
    )


def examine_teacher(
    model: Qwen2ForCausalLM,
    asked: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    proposals: int = 200,
    seed: int = 0,
) -> TeacherReport:
    """Sample `proposals` tasks at each difficulty in `asked`; 0.3 must be among them."""
    generator = torch.Generator().manual_seed(seed)
    found = {level: _propose(model, level, proposals, generator) for level in asked}
    good = {level: [text for text in texts if text is not None] for level, texts in found.items()}
    return TeacherReport(
        proposals=proposals,
        well_formed=sum(map(len, good.values())) / (proposals * len(asked)),
        distinct=len(set(good[0.3])) / proposals,
        difficulty={level: fmean(map(estimate_difficulty, texts)) for level, texts in good.items() if texts},
    )


def _propose(
    model: Qwen2ForCausalLM, difficulty: float, count: int, generator: torch.Generator
) -> list[str | None]:
    """The expressions proposed; None where there is no single one, or the reply has no end."""
    prompt = encode(PROPOSAL_REQUEST.format(difficulty) + "\n")
    expressions: list[str | None] = []
    for ids in complete(model, [prompt] * count, generator):
        text = decode(ids)
        complete_reply = ids[-1] == EOS_ID and text.startswith(TASK_PREFIX)
        expressions.append(find_expression(text.removeprefix(TASK_PREFIX)) if complete_reply else None)
    return expressions


def _accuracy(pairs: Sequence[tuple[HeldOutTask, Played]]) -> float:
    return fmean(played.answer == task.answer for task, played in pairs) if pairs else 0.0
