"""The Student.

Consumes SolveTask and SetPolicyVersion; produces Solution; waits for the engine and for tools; unblocked by
the deadline of each generation and by each tool's limits.

Invariants: every turn records the exact tokens and the version that sampled them; nothing is ever
tokenized twice; an episode ends after `max_turns` at the latest, whatever the model writes.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from ...configs.errors import SettingsError
from ...configs.models import ModelSettings
from ...configs.roles import StudentSettings
from ...messages.adapters import AdapterRef, SetPolicyVersion
from ...messages.episodes import Solution, SolveTask, StopReason
from ...messages.generation import Completion, EndSessions, Generate, SamplingSettings
from ...messages.turns import Turn
from ...runtime.actor import Actor
from ...runtime.engines.base import PromptTooLong
from ...runtime.engines.chat.format import ChatFormat
from ...runtime.engines.pool import EnginePool
from ...runtime.ref import Ref
from ...runtime.tools.calls.parser import ReplyContent, parse_reply
from ...runtime.tools.tool_set import ToolSet
from ..domains import domain_named, needs_store
from ..namespaces import DataAccess
from .confidence import QUESTION, combined, read_critique, token_confidence
from .tools import data_tools, toolkit


def observation_text(turn: Turn) -> str:
    """What the tools said to a turn's calls; where there are several, in their order and named."""
    if len(turn.results) == 1:
        return f"Observation: {turn.results[0].output}"
    said = (
        f"{number} ({call.tool}): {result.output}"
        for number, (call, result) in enumerate(zip(turn.calls, turn.results, strict=True), start=1)
    )
    return "Observation:\n" + "\n".join(said)


log = structlog.get_logger("student")
STOP = "\nObservation:"
"""Where the model's turn ends, should it go on to make up what the tool says."""


class Student(Actor):
    """Solves tasks, several episodes at once."""

    concurrency = 8192  # a new policy must not queue behind episodes: `_slots` bounds those

    def __init__(
        self,
        settings: StudentSettings,
        model: ModelSettings,
        engine: Ref,
        searcher: Ref | None = None,
        data: DataAccess | None = None,
    ) -> None:
        """`searcher` answers Search, for the retrieve tool. Raises SettingsError if it is missing.

        `data` carries out the actions of tasks of the `data` domain.
        """
        self._settings = settings
        self._model = model
        self._engine = engine
        self._data = data
        self._tools = toolkit(settings, searcher)
        self._slots = anyio.Semaphore(settings.concurrent_episodes)
        self._policy = AdapterRef(policy="student", version=0)
        self._chat: ChatFormat

    async def start(self) -> None:
        """Read the tokenizer and warm the tools up."""
        self._chat = await anyio.to_thread.run_sync(ChatFormat.load, self._model.locate())
        await self._tools.start()

    async def aclose(self) -> None:
        """Stop the tools."""
        await self._tools.aclose()

    async def use_policy(self, message: SetPolicyVersion) -> None:
        """Sample with this version from the next turn on; an older one is ignored."""
        self._policy = _newer(self._policy, message.adapter)
        log.info("policy in use", version=self._policy.version)
        if isinstance(self._engine, EnginePool):
            self._engine.avoid(message.avoid)

    async def solve(self, message: SolveTask) -> Solution:
        """Run one episode to its end."""
        self._policy = _newer(self._policy, message.adapter)
        async with self._slots:
            began = time.monotonic()
            try:
                async with self._tools_for(message) as toolbox:
                    turns, answer, stop_reason = await self._episode(message, toolbox)
                confidence = await self._confidence(message, turns, answer)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._engine.tell(EndSessions(sessions=(message.episode_id,)))
        log.debug("episode ended", episode_id=message.episode_id, turns=len(turns), stop_reason=stop_reason)
        return Solution(
            episode_id=message.episode_id,
            task_id=message.task.id,
            answer=answer,
            turns=tuple(turns),
            stop_reason=stop_reason,
            space=message.space,
            confidence=confidence,
            duration_s=time.monotonic() - began,
        )

    @asynccontextmanager
    async def _tools_for(self, message: SolveTask) -> AsyncIterator[ToolSet]:
        """The tools of the task's domain. Raises SettingsError without the store that it needs."""
        if not needs_store(message.task.domain):
            async with self._tools.box(message.episode_id) as toolbox:
                yield toolbox
            return
        if self._data is None or not message.space:
            raise SettingsError(
                f"a task of the {message.task.domain} domain needs the data plane, and a space of its own"
            )
        async with data_tools(self._data, self._settings.data, message) as tools:
            yield ToolSet(tools)

    async def _episode(
        self, message: SolveTask, toolbox: ToolSet
    ) -> tuple[list[Turn], str | None, StopReason]:
        turns: list[Turn] = []
        history: tuple[int, ...] = ()
        task, examples = message.task, self._settings.examples
        domain = domain_named(task.domain)
        added = self._chat.opening(domain.opening(task.description, toolbox.tools, examples))
        for number in range(self._settings.max_turns):
            adapter = message.adapter if message.pinned else self._policy
            started_at, began = time.time(), time.monotonic()
            try:
                completion = await self._generate(message, number, history + added, adapter)
            except PromptTooLong:
                if not turns:
                    raise  # the task itself does not fit: nobody's episode
                return turns, None, "token_limit"
            text = self._chat.decode(completion.token_ids)
            reply = parse_reply(text, toolbox.signatures)
            results = await toolbox.call_all(reply.calls, self._settings.max_calls_per_turn)
            turns.append(
                Turn(
                    prompt_ids=added,
                    completion_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    loss_mask=(0,) * len(added) + (1,) * len(completion.token_ids),
                    policy_version=adapter.version,
                    finish_reason=completion.finish_reason,
                    text=text,
                    calls=reply.calls,
                    results=results,
                    started_at=started_at,
                    generate_s=time.monotonic() - began,
                )
            )
            if not reply.calls:
                return turns, reply.answer, _stop_reason(reply, completion)
            history += added + completion.token_ids
            added = self._observe(turns[-1], completion)
        return turns, None, "turn_limit"

    async def _generate(
        self, message: SolveTask, number: int, prompt_ids: tuple[int, ...], adapter: AdapterRef
    ) -> Completion:
        settings = self._settings
        temperature = settings.temperature if message.temperature is None else message.temperature
        request = Generate(
            request_id=f"{message.episode_id}/{number}",
            prompt_ids=prompt_ids,
            sampling=SamplingSettings(
                temperature=temperature,
                top_p=settings.top_p,
                max_tokens=settings.max_tokens_per_turn,
                stop=(STOP,),
                seed=None if message.seed is None else message.seed + number,
            ),
            adapter=adapter.name,
            session=message.episode_id,
        )
        return await self._engine.ask(request, timeout_s=settings.generate_timeout_s)

    async def _confidence(self, message: SolveTask, turns: Sequence[Turn], answer: str | None) -> float:
        """How sure the answer is; without one, how sure the last turn was."""
        settings = self._settings.confidence
        by_tokens = token_confidence(turns[-1], answer, self._chat.decode)
        if answer is None or not settings.self_critique:
            return by_tokens
        history = tuple(token for turn in turns for token in turn.prompt_ids + turn.completion_ids)
        ended = turns[-1].completion_ids[-1:] and turns[-1].completion_ids[-1] in self._chat.eos_ids
        request = Generate(
            request_id=f"{message.episode_id}/critique",
            prompt_ids=history + self._chat.observation(QUESTION, cut_off=not ended),
            sampling=SamplingSettings(temperature=0.0, max_tokens=settings.max_tokens),
            adapter=(message.adapter if message.pinned else self._policy).name,
            session=message.episode_id,
        )
        try:
            completion = await self._engine.ask(request, timeout_s=self._settings.generate_timeout_s)
        except PromptTooLong:
            return by_tokens
        by_critique = read_critique(self._chat.decode(completion.token_ids))
        return combined(by_tokens, by_critique, settings.critique_weight)

    def _observe(self, turn: Turn, completion: Completion) -> tuple[int, ...]:
        """The tokens of what the tools said; they follow the completion as it was sampled."""
        ended = bool(completion.token_ids) and completion.token_ids[-1] in self._chat.eos_ids
        return self._chat.observation(observation_text(turn), cut_off=not ended)


def _newer(current: AdapterRef, offered: AdapterRef) -> AdapterRef:
    return offered if offered.version > current.version else current


def _stop_reason(reply: ReplyContent, completion: Completion) -> StopReason:
    if reply.answer is not None:
        return "answered"
    return "token_limit" if completion.finish_reason == "length" else "no_action"
