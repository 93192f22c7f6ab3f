"""The Teacher.

Consumes ProposeTasks, RewardTasks and SetPolicyVersion; produces Proposals and TaskRewards; waits for the
engine, and for the searcher where it is grounded; unblocked by the deadline of each ask.

Invariants: every task it gives out is well formed, unlike any it gave out before in this run, and
never from the evaluation split; each carries the turn that wrote it, so that it can be learned from.
"""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import structlog

from ...configs.data import LIBRARY
from ...configs.errors import BadInput, SettingsError
from ...configs.models import ModelSettings
from ...configs.roles import TeacherSettings
from ...messages.adapters import AdapterRef, SetPolicyVersion
from ...messages.generation import Generate, SamplingSettings
from ...messages.search import Passage, PassageRef, SamplePassages
from ...messages.tasks import Proposal, Proposals, ProposeTasks, RewardTasks, Task, TaskRewards
from ...messages.turns import Turn
from ...runtime.actor import Actor
from ...runtime.engines.chat.format import ChatFormat
from ...runtime.engines.pool import EnginePool
from ...runtime.ref import Ref
from ...runtime.tasks import task_group
from ...training.rewards import teacher_rewards
from ..domains import domain_named
from ..domains.base import CheckedTask, TaskGenerator
from .novelty import NoveltyArchive

log = structlog.get_logger("teacher")
GENERATE_TIMEOUT_S = 120.0


class _Draft(NamedTuple):
    """A reply of the model, and the task in it."""

    turn: Turn
    task: CheckedTask | None
    source: PassageRef | None


class Teacher(Actor):
    """Proposes tasks by prompting the model."""

    def __init__(
        self,
        settings: TeacherSettings,
        model: ModelSettings,
        engine: Ref,
        archive_file: Path | None,
        searcher: Ref | None = None,
        library: Path = LIBRARY,
    ) -> None:
        """`searcher` answers SamplePassages, for grounding. Raises SettingsError if it is missing.

        `library` is the folder that tasks of the `data` domain are about.
        """
        if settings.grounding_tag and searcher is None:
            raise SettingsError("teacher.grounding_tag names texts, but there is no searcher to ask")
        self._settings = settings
        self._model = model
        self._engine = engine
        self._searcher = searcher
        self._archive_file = archive_file
        self._library = library
        self._domains: dict[str, TaskGenerator] = {}
        self._policy = AdapterRef(policy="teacher", version=0)
        self._chat: ChatFormat
        self._archive: NoveltyArchive

    async def start(self) -> None:
        """Read the tokenizer and the archive of earlier tasks."""
        self._chat = await anyio.to_thread.run_sync(ChatFormat.load, self._model.locate())
        self._archive = await anyio.to_thread.run_sync(
            NoveltyArchive, self._settings.novelty, self._archive_file
        )

    async def use_policy(self, message: SetPolicyVersion) -> None:
        """Propose with this version from now on; an older one is ignored."""
        if message.adapter.version > self._policy.version:
            self._policy = message.adapter
            log.info("policy in use", version=self._policy.version)
        if isinstance(self._engine, EnginePool):
            self._engine.avoid(message.avoid)

    async def propose(self, message: ProposeTasks) -> Proposals:
        """Up to `count` tasks; fewer when the model keeps repeating itself."""
        domain = await self._domain(message.domain)
        self._policy = message.adapter if message.adapter.version > self._policy.version else self._policy
        proposals: list[Proposal] = []
        rejected: list[Turn] = []
        malformed = duplicates = held_out = 0
        for _ in range(self._settings.max_attempts):
            missing = message.count - len(proposals)
            if missing <= 0:
                break
            drafts = await self._draft(domain, message, round(missing * self._settings.oversample))
            well_formed = [(draft, draft.task) for draft in drafts if draft.task is not None]
            usable = [(draft, task) for draft, task in well_formed if not task.held_out][:missing]
            novelties = self._archive.admit([task.description for _, task in usable])
            for (draft, task), novelty in zip(usable, novelties, strict=True):
                if novelty is None:
                    rejected.append(draft.turn)
                else:
                    made = _task(message.domain, task, novelty, draft.source)
                    proposals.append(Proposal(task=made, turn=draft.turn))
            malformed += len(drafts) - len(well_formed)
            duplicates += novelties.count(None)
            held_out += sum(task.held_out for _, task in well_formed)
            rejected += [draft.turn for draft in drafts if draft.task is None]
        log.info(
            "tasks proposed",
            domain=message.domain,
            asked_difficulty=message.difficulty,
            count=len(proposals),
            malformed=malformed,
            duplicates=duplicates,
            held_out=held_out,
        )
        return Proposals(
            proposals=tuple(proposals),
            malformed=malformed,
            duplicates=duplicates,
            held_out=held_out,
            rejected=tuple(rejected),
        )

    async def reward(self, message: RewardTasks) -> TaskRewards:
        """The frontier reward of each proposal; near-duplicates within the batch cost."""
        outcomes = message.outcomes
        sizes = self._archive.cluster_sizes([outcome.proposal.task.description for outcome in outcomes])
        return TaskRewards(totals=tuple(teacher_rewards(outcomes, sizes, len(outcomes), self._settings)))

    async def _domain(self, name: str) -> TaskGenerator:
        if name not in self._domains:
            make = domain_named(name).task_generator
            examples = self._settings.examples
            self._domains[name] = await anyio.to_thread.run_sync(make, self._library, examples)
        return self._domains[name]

    async def _draft(self, domain: TaskGenerator, message: ProposeTasks, count: int) -> list[_Draft]:
        drafts: list[_Draft] = []

        async def one(policy: AdapterRef, passage: Passage | None) -> None:
            prompt_ids = self._chat.opening(domain.prompt(message.difficulty, passage))
            turn = await self._generate(prompt_ids, policy)
            whole = turn.finish_reason == "stop"  # what was cut off may look like another task
            task = domain.check(turn.text, message.difficulty) if whole else None
            if task is not None and self._settings.require_reference and not task.can_be_judged:
                task = None
            drafts.append(_Draft(turn, task, passage.ref if passage else None))

        passages = await self._ground(count)
        async with task_group() as group:
            for passage in passages:
                group.start_soon(one, self._policy, passage)
        return drafts

    async def _ground(self, count: int) -> Sequence[Passage | None]:
        """A passage for each draft, drawn at random; each comes again only when all have come."""
        if self._searcher is None or not self._settings.grounding_tag:
            return [None] * count
        request = SamplePassages(tag=self._settings.grounding_tag, count=min(count, 1024))
        found = await self._searcher.ask(request, timeout_s=self._settings.grounding_timeout_s)
        if not found.passages:
            raise BadInput(f"teacher.grounding_tag: there is no text under the tag {request.tag!r}")
        return [found.passages[number % len(found.passages)] for number in range(count)]

    async def _generate(self, prompt_ids: tuple[int, ...], policy: AdapterRef) -> Turn:
        request = Generate(
            request_id=uuid.uuid4().hex,
            prompt_ids=prompt_ids,
            sampling=SamplingSettings(
                temperature=self._settings.temperature, max_tokens=self._settings.max_tokens
            ),
            adapter=policy.name,
        )
        started_at, began = time.time(), time.monotonic()
        completion = await self._engine.ask(request, timeout_s=GENERATE_TIMEOUT_S)
        return Turn(
            prompt_ids=prompt_ids,
            completion_ids=completion.token_ids,
            logprobs=completion.logprobs,
            loss_mask=(0,) * len(prompt_ids) + (1,) * len(completion.token_ids),
            policy_version=policy.version,
            finish_reason=completion.finish_reason,
            text=self._chat.decode(completion.token_ids),
            started_at=started_at,
            generate_s=time.monotonic() - began,
        )


def _task(domain: str, checked: CheckedTask, novelty: float, source: PassageRef | None) -> Task:
    return Task(
        id=uuid.uuid4().hex[:12],
        domain=domain,
        description=checked.description,
        difficulty=checked.difficulty,
        reference=checked.reference,
        reference_kind=checked.reference_kind,
        novelty=novelty,
        goal=checked.goal,
        created_at=time.time(),
        source=source,
    )
