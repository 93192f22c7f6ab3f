"""The model card: how the seed model was made and what was measured, in numbers from the run."""

from __future__ import annotations

from pathlib import Path

from training.seed.evaluation import StudentReport, TeacherReport
from training.seed.pretrain import PretrainConfig, Progress
from training.tasks.arithmetic import HELD_OUT_ONE_IN


def write_card(
    folder: Path,
    config: PretrainConfig,
    last: Progress,
    seconds: float,
    student: StudentReport,
    teacher: TeacherReport,
) -> None:
    """Write `README.md` into `folder`."""
    parts = (
        _opening(),
        _making(config, last, seconds),
        _student_numbers(student),
        _teacher_numbers(teacher),
    )
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _opening() -> str:
    return """# The seed model

A causal language model of the Qwen2 architecture with 4 layers of width 128 and one token a
character. It knows one thing: to answer small arithmetic tasks in the ReAct format, sometimes with
python and more often, wrongly, from its head. It is where reinforcement learning starts when
neither a GPU nor a network is at hand, and it is good for nothing else.

As a Student it reads a task and writes up to `<eos>`; the tool's output is spliced in between:

```
Task: Compute 12+34*5.
Thought: Use python.
Action: python
Input: print(12+34*5)<eos>
Observation: 182
Answer: 182<eos>
```

or, from its head, `Thought: Easy.` and `Answer: 172<eos>`. As a Teacher it reads
`Propose a math task of difficulty 0.30.` and writes `Task: Compute 7+12.<eos>`.
"""


def _making(config: PretrainConfig, last: Progress, seconds: float) -> str:
    return f"""## How it was made

```
python -m training.seed --out DIR --steps {config.steps} --seed {config.seed}
```

From random weights, on text that `training/seed/corpus.py` writes by rule; no other data and no
other model took part. {last.step * config.episodes_per_step:,} episodes, {last.taught_tokens:,}
taught characters, {last.step:,} steps of Muon and AdamW at peak rates of {config.muon_rate:g} and
{config.adam_rate:g}, {seconds / 60:.0f} minutes on {config.threads} CPU thread(s).

One expression in {HELD_OUT_ONE_IN} is held out of the text by a hash. The numbers below come from
held-out expressions only, sampled at temperature 1.
"""


def _student_numbers(student: StudentReport) -> str:
    rows = (
        ("pass@1", student.pass_at_1),
        ("episodes that use the tool", student.tool_share),
        ("right when the tool is used", student.tool_accuracy),
        ("right when the tool is used, difficulty 0.8 and above", student.hard_tool_accuracy),
        ("right from the head", student.head_accuracy),
        ("well-formed episodes", student.well_formed),
    )
    table = "\n".join(f"| {name} | {value:.3f} |" for name, value in rows)
    return f"""## As a Student, before training

{student.episodes:,} episodes; one with the tool has {student.tool_characters:.0f} characters of the
model's own on average.

| | |
|---|---|
{table}
"""


def _teacher_numbers(teacher: TeacherReport) -> str:
    rows = "\n".join(f"| {asked:.1f} | {measured:.2f} |" for asked, measured in teacher.difficulty.items())
    return f"""## As a Teacher, before training

{teacher.proposals} proposals at each difficulty: {teacher.well_formed:.3f} are well-formed, and
{teacher.distinct:.2f} of those at 0.3 are distinct.

| difficulty asked | difficulty measured |
|---|---|
{rows}
"""


def write_errands_card(folder: Path, config: PretrainConfig, last: Progress, seconds: float) -> None:
    """Write `README.md` of the data seed model into `folder`."""
    text = f"""# The data seed model

Like the seed model beside it: Qwen2, 4 layers of width 128, one token a character. It knows one thing: to
run small errands in the data plane in the ReAct format, sometimes, and more often to make an answer up.

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

As a Teacher it reads `Propose a data task of difficulty 0.30.` and writes such a task about the library
that ships with the project.

## How it was made

```
python -m training.seed --corpus errands --out DIR --steps {config.steps} --seed {config.seed}
```

From the weights of the seed model, which can copy, on text that `training/seed/errands_corpus.py` writes by
rule: {last.step * config.episodes_per_step:,} episodes, {last.taught_tokens:,} taught characters,
{last.step:,} steps of Muon and AdamW at peak rates of {config.muon_rate:g} and {config.adam_rate:g},
{seconds / 60:.0f} minutes on {config.threads} CPU thread(s). No file that is held out is in it.

`agentfactory evolve laptop-data` measures it on held-out errands, in a real store.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
