"""Tasks, what their answers are graded against, and the Teacher's side of the conversation."""

from typing import Literal

from pydantic import Field

from .adapters import AdapterRef
from .base import Message, Request
from .search import PassageRef
from .turns import Turn

LogicQuestion = Literal["value", "satisfiable", "entailed", "table", "equivalent", "proof"]
"""A truth value; whether (and how) it can be true; whether it follows; its truth table; a formula with the
same table; a derivation."""


class LogicSpec(Message):
    """What is asked about a formula of propositional logic."""

    kind: Literal["logic"] = "logic"
    asks: LogicQuestion
    formula: str
    """Such as `p -> (q or not r)`: what is valued, tabulated, or to be shown."""
    premises: tuple[str, ...] = ()
    """What it must follow from, for `entailed` and `proof`; for `satisfiable`, true at the same time."""
    assignment: tuple[tuple[str, bool], ...] = ()
    """Values of the letters, for `value`."""


class CodeTestCase(Message):
    """One hidden test of a function."""

    call: str
    """An expression such as `add(2, 3)`. The answer's code gets to see it."""
    expected: str
    """The value as a Python literal. The answer's code never gets to see it."""
    tolerance: float = Field(default=0.0, ge=0.0)
    """By how much numbers may differ, relative to what is expected where that is more than 1."""


class IoTestCase(Message):
    """One hidden run of a whole program."""

    stdin: str
    stdout: str
    """Compared line by line; spaces at the end of lines and empty lines at the end do not count."""


class CodeSpec(Message):
    """What a piece of code must do, and how it must be written."""

    kind: Literal["code"] = "code"
    function: str = ""
    """Must be defined at the top level; empty where a whole program is asked for."""
    parameters: int | None = Field(default=None, ge=0)
    """How many arguments the function must take; None: not looked at."""
    checks: tuple[CodeTestCase, ...] = ()
    runs: tuple[IoTestCase, ...] = ()
    forbidden: tuple[str, ...] = ()
    """Names that may not be used, and words of syntax: `for`, `while`, `import`, `lambda`, `recursion`."""


class Milestone(Message):
    """One subtask, and the value that shows that it was done."""

    name: str
    value: str


class MilestonesSpec(Message):
    """Intermediate results that must turn up on the way."""

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[Milestone, ...] = Field(min_length=1)
    in_order: bool = True
    """A milestone counts only after those before it."""


ReferenceKind = Literal["computed", "majority", "given", "none"]
"""Where a reference answer came from: computed and checked, voted by the Student, or supplied."""


class ExpectedBlob(Message):
    """A blob that must be there."""

    tag: str
    """As the task names it, without what sets the episode's tags apart."""
    name: str
    sha256: str
    """Hexadecimal digest of the bytes."""


class StoreSpec(Message):
    """What an episode must leave in the store: these blobs under its tags, and no others."""

    kind: Literal["store"] = "store"
    blobs: tuple[ExpectedBlob, ...] = Field(min_length=1)
    """At least one: an empty store is what every episode begins with."""


Goal = StoreSpec | LogicSpec | CodeSpec | MilestonesSpec


class Task(Message):
    """One thing to solve."""

    id: str
    domain: str
    description: str
    difficulty: float = Field(ge=0.0, le=1.0)
    """Expected difficulty, 0 (trivial) to 1."""
    reference: str | None = None
    """The answer to compare with, where one is known."""
    reference_kind: ReferenceKind = "none"
    novelty: float = Field(default=1.0, ge=0.0, le=1.0)
    """1 − the highest cosine similarity to any task proposed before, over all rounds."""
    created_at: float = 0.0
    """Seconds since the epoch."""
    goal: Goal | None = None
    """What a solution is held against beside the reference; None where the answer is all that counts."""
    source: PassageRef | None = None
    """The passage that the Teacher had at hand when it wrote the task."""


class Proposal(Message):
    """A task together with the Teacher's turn that wrote it, so that the Teacher can learn from it."""

    task: Task
    turn: Turn | None = None
    """None for tasks that no model wrote (evaluation sets, a person's own task)."""


class Proposals(Message):
    """The tasks that passed every check, and why the others did not."""

    proposals: tuple[Proposal, ...]
    malformed: int = 0
    """Replies in which no well-formed task was found."""
    duplicates: int = 0
    """Tasks too similar to one proposed before."""
    rejected: tuple[Turn, ...] = ()
    """The turns behind `malformed` and `duplicates`: they earn the Teacher nothing."""
    held_out: int = 0
    """Tasks that belong to the evaluation split and must never be trained on."""


class ProposeTasks(Request[Proposals]):
    """Ask the Teacher for new tasks."""

    count: int = Field(ge=1, le=1024)
    domain: str
    difficulty: float = Field(ge=0.0, le=1.0)
    adapter: AdapterRef = AdapterRef(policy="teacher", version=0)
    """The version to propose with; a newer one in use replaces it."""


class TaskOutcome(Message):
    """How the Student fared on one proposed task: what the Teacher's frontier reward is made of."""

    proposal: Proposal
    majority_share: float = Field(ge=0.0, le=1.0)
    """p̂: the share of the most frequent answer over the k episodes of the task's group."""
    tool_calls: float = Field(ge=0.0)
    """Mean number of tool calls in the Student's episodes."""


class TaskRewards(Message):
    """The Teacher's reward for each outcome, in the order given."""

    totals: tuple[float, ...]


class RewardTasks(Request[TaskRewards]):
    """Ask the Teacher what its proposals have earned, now that the Student has tried them."""

    outcomes: tuple[TaskOutcome, ...]
