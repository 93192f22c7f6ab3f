"""Tasks that are well formed, new, and never from the held-out split."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.domains import domain_named
from agentfactory.actors.teacher.actor import Teacher
from agentfactory.actors.teacher.novelty import NoveltyArchive
from agentfactory.bridge.search.embedding import NgramEmbedder
from agentfactory.configs.data import LIBRARY
from agentfactory.configs.errors import BadInput
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.roles import NoveltySettings, TeacherSettings
from agentfactory.messages.tasks import Proposal, ProposeTasks, RewardTasks, Task, TaskOutcome
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.tasks import arithmetic
from tests.actors.scripted import Script, ScriptedInference, model_folder

TIMEOUT_S = 180
MATH = domain_named("math").task_generator(LIBRARY)
SETTINGS = TeacherSettings(require_reference=True, max_attempts=4)


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    return model_folder(tmp_path / "model")


@asynccontextmanager
async def teacher(
    model: ModelSettings, script: Script, settings: TeacherSettings = SETTINGS, archive: Path | None = None
) -> AsyncIterator[ActorRef]:
    async with ActorSystem.open("local") as system:
        engine = await system.spawn(ScriptedInference, model, script, name="engine")
        yield await system.spawn(Teacher, settings, model, engine, archive, name="teacher")


def counting(pattern: str = "Task: Compute {}+1.") -> Script:
    numbers = itertools.count(100)
    return lambda prompt, adapter: pattern.format(next(numbers))


def ask(count: int = 6, domain: str = "math") -> ProposeTasks:
    return ProposeTasks(count=count, domain=domain, difficulty=0.4)


async def test_a_task_carries_the_reference_that_was_computed(model: ModelSettings) -> None:
    async with teacher(model, lambda prompt, adapter: "Task: Compute 12+34*5.") as ref:
        (proposal,) = (await ref.ask(ask(1), timeout_s=TIMEOUT_S)).proposals
    assert proposal.task.reference == "182"
    assert proposal.task.reference_kind == "computed"
    assert proposal.turn is not None
    assert proposal.turn.text == "Task: Compute 12+34*5."


async def test_it_proposes_as_many_as_asked_and_none_twice(model: ModelSettings) -> None:
    async with teacher(model, counting()) as ref:
        first = await ref.ask(ask(10), timeout_s=TIMEOUT_S)
        second = await ref.ask(ask(10), timeout_s=TIMEOUT_S)
    descriptions = [p.task.description for p in first.proposals + second.proposals]
    assert len(descriptions) == len(set(descriptions)) == 20


async def test_no_task_of_the_held_out_split_is_ever_proposed(model: ModelSettings) -> None:
    async with teacher(model, counting()) as ref:
        answer = await ref.ask(ask(200), timeout_s=TIMEOUT_S)
    assert answer.held_out > 0
    for proposal in answer.proposals:
        expression = arithmetic.find_expression(proposal.task.description)
        assert expression is not None
        assert not arithmetic.is_held_out(expression)


async def test_a_teacher_that_repeats_itself_gives_fewer_and_says_why(model: ModelSettings) -> None:
    async with teacher(model, lambda prompt, adapter: "Task: Compute 2+3.") as ref:
        answer = await ref.ask(ask(4), timeout_s=TIMEOUT_S)
    assert len(answer.proposals) == 1
    assert answer.duplicates == len(answer.rejected) > 0


@pytest.mark.parametrize("reply", ["", "Compute 1+1.", "Task:", "Task: Compute 1+.", "Task: Compute 1/0."])
async def test_malformed_replies_are_counted_and_kept_to_learn_from(model: ModelSettings, reply: str) -> None:
    async with teacher(model, lambda prompt, adapter: reply) as ref:
        answer = await ref.ask(ask(2), timeout_s=TIMEOUT_S)
    assert answer.proposals == ()
    assert answer.malformed == len(answer.rejected) > 0


async def test_a_reply_that_was_cut_off_is_malformed_even_if_it_parses(model: ModelSettings) -> None:
    settings = SETTINGS.model_copy(update={"max_tokens": len("Task: Compute 12+3")})
    async with teacher(model, lambda prompt, adapter: "Task: Compute 12+34*5.", settings) as ref:
        answer = await ref.ask(ask(1), timeout_s=TIMEOUT_S)
    assert answer.proposals == ()
    assert answer.malformed > 0


async def test_a_word_problem_goes_without_a_reference_where_that_is_allowed(model: ModelSettings) -> None:
    reply = "Task: Ann has some apples and gives half away. How many are left of 12?"
    assert MATH.check(reply, 0.5) is not None
    settings = SETTINGS.model_copy(update={"require_reference": False, "max_tokens": 200})
    async with teacher(model, lambda prompt, adapter: reply, settings) as ref:
        (proposal,) = (await ref.ask(ask(1), timeout_s=TIMEOUT_S)).proposals
    assert proposal.task.reference is None
    assert proposal.task.reference_kind == "none"


async def test_an_unknown_domain_is_named_with_the_known_ones(model: ModelSettings) -> None:
    async with teacher(model, counting()) as ref:
        with pytest.raises(BadInput, match=r"unknown domain 'alchemy'; known: math, "):
            await ref.ask(ProposeTasks(count=1, domain="alchemy", difficulty=0.1), timeout_s=TIMEOUT_S)


async def test_an_errand_carries_its_goal_and_its_answer(model: ModelSettings) -> None:
    reply = "Task: Load the folder samples as docs, then fetch setup_guide.md."
    settings = SETTINGS.model_copy(update={"max_tokens": 200})
    async with teacher(model, lambda prompt, adapter: reply, settings) as ref:
        (proposal,) = (await ref.ask(ask(1, "data"), timeout_s=TIMEOUT_S)).proposals
    task = proposal.task
    assert (task.domain, task.reference, task.reference_kind) == ("data", "Run make.", "computed")
    assert task.goal is not None
    assert {(blob.tag, blob.name) for blob in task.goal.blobs} == {
        ("docs", name) for name in ("hello.txt", "notes.md", "setup_guide.md", "todo.txt")
    }


@pytest.mark.parametrize(
    ("reply", "malformed", "held_out"),
    [
        ("Task: Load the folder attic as docs, then fetch setup_guide.md.", 1, 0),
        ("Task: Load the folder samples as docs, then fetch notes.md.", 0, 1),
        ("Task: Compute 2+3.", 1, 0),
    ],
)
async def test_an_errand_that_cannot_be_run_or_is_held_out_is_not_given_out(
    model: ModelSettings, reply: str, malformed: int, held_out: int
) -> None:
    settings = SETTINGS.model_copy(update={"max_tokens": 200, "max_attempts": 1, "oversample": 1.0})
    async with teacher(model, lambda prompt, adapter: reply, settings) as ref:
        answer = await ref.ask(ask(1, "data"), timeout_s=TIMEOUT_S)
    assert (answer.proposals, answer.malformed, answer.held_out) == ((), malformed, held_out)


async def test_a_restarted_teacher_remembers_what_was_proposed(model: ModelSettings, tmp_path: Path) -> None:
    archive = tmp_path / "archive.jsonl"
    script: Script = lambda prompt, adapter: "Task: Compute 2+3."  # noqa: E731
    async with teacher(model, script, archive=archive) as ref:
        assert len((await ref.ask(ask(1), timeout_s=TIMEOUT_S)).proposals) == 1
    async with teacher(model, script, archive=archive) as ref:
        assert (await ref.ask(ask(1), timeout_s=TIMEOUT_S)).proposals == ()


async def test_a_frontier_task_earns_more_than_one_that_is_too_easy(model: ModelSettings) -> None:
    def outcome(text: str, share: float) -> TaskOutcome:
        task = Task(id=text, domain="math", description=text, difficulty=0.3)
        return TaskOutcome(proposal=Proposal(task=task), majority_share=share, tool_calls=1.0)

    outcomes = (outcome("Compute 1+1.", 0.5), outcome("What is 77*(3-21)?", 1.0))
    async with teacher(model, counting()) as ref:
        frontier, easy = (await ref.ask(RewardTasks(outcomes=outcomes), timeout_s=TIMEOUT_S)).totals
    assert frontier > easy


def test_spelling_tells_expressions_apart() -> None:
    one, same, other = NgramEmbedder().embed(["Compute 3+4.", "Compute 3+4.", "Compute 31+4."])
    assert one @ same == pytest.approx(1.0)
    assert one @ other < 0.95


def test_an_archive_with_a_torn_line_still_opens(tmp_path: Path) -> None:
    file = tmp_path / "archive.jsonl"
    NoveltyArchive(NoveltySettings(), file).admit(["Compute 1+2.", "Compute 77*3."])
    with file.open("a") as stream:
        stream.write('"Compute 5')
    archive = NoveltyArchive(NoveltySettings(), file)
    assert len(archive) == 2
    assert archive.admit(["Compute 1+2."]) == [None]


def test_a_cluster_is_as_large_as_its_near_duplicates() -> None:
    archive = NoveltyArchive(NoveltySettings(), None)
    assert archive.cluster_sizes(["Compute 1+2.", "Compute 1+2.", "What is 9*(8-7)?"]) == [2, 2, 1]
