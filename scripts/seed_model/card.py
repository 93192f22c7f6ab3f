"""The model card: how the seed model was made and what was measured, in numbers from the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.seed_model.evaluation import StudentReport, TeacherReport
from scripts.seed_model.mixture import SHARES
from scripts.seed_model.pretrain import PretrainConfig, TrainingPhase


class TrainingRecord(NamedTuple):
    """What was done to make the weights."""

    config: PretrainConfig
    taught: int
    """Characters that carried loss."""
    seconds: float
    first_is_older: bool
    """Whether the first lesson was not repeated; its characters and seconds are left out then."""


def write_card(
    folder: Path,
    making: TrainingRecord,
    students: Mapping[str, StudentReport],
    teachers: Mapping[str, TeacherReport],
) -> None:
    """Write `README.md` into `folder`; the reports are by domain."""
    parts = (_opening(), _making(making), _students(students), _teachers(teachers))
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _opening() -> str:
    return """# The seed model

A causal language model of the Qwen2 architecture with 4 layers of width 128 and one token a
character. It knows one thing: to answer small tasks of three domains in the ReAct format, sometimes with
tools and more often, mostly wrongly, from its head. It is where reinforcement learning starts when
neither a GPU nor a network is at hand, and it is good for nothing else.

As a Student it reads a task and writes up to `<eos>`; what the tools say is spliced in between:

```
Task: Compute 12+34*5.
Thought: Use python.
Action: python
Input: print(12+34*5)<eos>
Observation: 182
Answer: 182<eos>
```

or, from its head, `Thought: Easy.` and `Answer: 172<eos>`. Logic goes through python as well,
such as `print((12&10)|5)` for the column of a formula over the columns of a truth table. An errand takes the
tools of the data plane:

```
Task: Load the folder samples as docs, then fetch setup_guide.md.
Thought: Load it.
Action: assimilate
Input: folder::samples as docs<eos>
Observation: stored 4 blobs (60 bytes) under 'docs'
Action: retrieve
Input: docs/setup_guide.md<eos>
Observation: Run make.
Then run make test.
Answer: Run make.<eos>
```

As a Teacher it reads `Propose a math task of difficulty 0.30.` (or `logic`, or `data`) and writes
`Task: Compute 7+12.<eos>`.
"""


def _making(making: TrainingRecord) -> str:
    config = making.config
    rows = "\n".join(_lesson(lesson) for lesson in config.lessons)
    steps = " ".join(str(lesson.steps) for lesson in config.lessons)
    earlier = (
        "\nThe first lesson was not repeated: its weights had been made by the same command before, and the\n"
        "characters and the time below are those of the other.\n"
        if making.first_is_older
        else ""
    )
    shares = ", ".join(f"{share:.0%} {domain}" for domain, share in SHARES.items())
    return f"""## How it was made

```
python -m scripts.seed_model --out DIR --steps {steps} --seed {config.seed}
```

From random weights, on text that the modules `*_corpus` in `scripts/seed_model` write by rule; no other data
and no other model took part. The mixed corpus is {shares}.

| lesson | episodes | steps | peak rate of Muon | of AdamW |
|---|---|---|---|---|
{rows}
{earlier}
{making.taught:,} taught characters, {making.seconds / 60:.0f} minutes on {config.threads} CPU thread(s).

What is held out (one sum in 16, one formula in 8, one file in 4, by hashes) is not in the text. The numbers
below come from held-out tasks only, sampled at temperature 1, with tools that are simulated.
"""


def _lesson(lesson: TrainingPhase) -> str:
    episodes = lesson.steps * lesson.episodes_per_step
    return (
        f"| {lesson.corpus} | {episodes:,} | {lesson.steps:,} | {lesson.muon_rate:g} | {lesson.adam_rate:g} |"
    )


def _students(reports: Mapping[str, StudentReport]) -> str:
    rows = "\n".join(
        f"| {domain} | {told.episodes} | {told.pass_at_1:.3f} | {told.tool_share:.3f} | "
        f"{told.tool_accuracy:.3f} | {told.head_accuracy:.3f} | {told.well_formed:.3f} |"
        for domain, told in reports.items()
    )
    return f"""## As a Student, before training

| domain | episodes | pass@1 | with a tool | right with it | right from the head | well-formed |
|---|---|---|---|---|---|---|
{rows}
"""


def _teachers(reports: Mapping[str, TeacherReport]) -> str:
    levels = sorted({level for told in reports.values() for level in told.difficulty})
    names = "".join(f" {level:.1f} |" for level in levels)
    rows = "\n".join(_teacher(domain, told, levels) for domain, told in reports.items())
    return f"""## As a Teacher, before training

Shares of well-formed proposals, and of distinct ones among those asked for at 0.3; then the mean
difficulty that was measured, by the one that was asked for.

| domain | proposals | well-formed | distinct |{names}
|---|---|---|---|{"---|" * len(levels)}
{rows}
"""


def _teacher(domain: str, told: TeacherReport, levels: list[float]) -> str:
    measured = "".join(
        f" {told.difficulty[level]:.2f} |" if level in told.difficulty else " – |" for level in levels
    )
    asked = told.proposals * len(levels)
    return f"| {domain} | {asked} | {told.well_formed:.3f} | {told.distinct:.2f} |{measured}"
