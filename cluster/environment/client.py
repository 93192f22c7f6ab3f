"""Environments of a server, over HTTP: used like those of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from ...messages.base import Done, Message
from ...messages.data import Action, ActionStep, ActionTrajectory, Observation, StepResult, TaskSpec
from ...messages.sessions import EnvironmentKind, OpenSession, ResetSession, SessionInfo
from .errors import NoSuchSession, ServerUnreachable, parse_error

M = TypeVar("M", bound=Message)


class HttpEnvironments:
    """See `cluster.environment.base.Environments`. Make it with `connect`."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, key: str = "", timeout_s: float = 600.0) -> AsyncIterator[Self]:
        """Talk to the server at `url`, such as `http://127.0.0.1:8100/v1`; `timeout_s` bounds each request.

        A worked example::

            async with HttpEnvironments.connect(url) as environments:
                environment = await environments.open("training")
                print((await environment.reset()).text)
        """
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            yield cls(http, url)

    async def open(self, kind: EnvironmentKind = "training") -> "HttpEnvironment":
        """A new environment. Raises BadInput, TooManySessions, ServerUnreachable."""
        info = await self.ask("POST", "/sessions", SessionInfo, OpenSession(kind=kind))
        return HttpEnvironment(self, info)

    async def ask(self, method: str, path: str, answer: type[M], body: BaseModel | None = None) -> M:
        """One request. Raises what the answer says, and ServerUnreachable."""
        data = None if body is None else body.model_dump_json().encode()
        url = self._url + path
        try:
            headers = {"Content-Type": "application/json"}
            async with self._http.request(method, url, data=data, headers=headers) as response:
                text = await response.text()
        except (TimeoutError, aiohttp.ClientError, UnicodeDecodeError) as error:
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(f"{url}: the environment server does not answer ({reason})") from error
        try:
            if response.status >= 400:
                said = _Failure.model_validate_json(text).error
                raise parse_error(response.status, said.code, said.message)
            return answer.model_validate_json(text)
        except ValidationError as error:
            raise ServerUnreachable(
                f"{url}: this is no environment server (HTTP {response.status})"
            ) from error


class HttpEnvironment:
    """See `cluster.environment.base.ServedEnvironment`. Raises ServerUnreachable besides."""

    def __init__(self, server: HttpEnvironments, info: SessionInfo) -> None:
        self.info = info
        self._server = server
        self._path = f"/sessions/{info.id}"
        self._steps: list[ActionStep] = []
        self._seen = Observation(text="")
        self._closed = False

    @property
    def trajectory(self) -> ActionTrajectory:
        """All steps since the last reset."""
        total = sum(step.result.reward for step in self._steps)
        return ActionTrajectory(steps=tuple(self._steps), total_reward=total)

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin an episode."""
        body = ResetSession(task=task)
        self._seen = await self._server.ask("POST", f"{self._path}/reset", Observation, body)
        self._steps = []
        return self._seen

    async def step(self, action: Action) -> StepResult:
        """Act. After ServerUnreachable the step may have been taken or not: reset."""
        result = await self._server.ask("POST", f"{self._path}/step", StepResult, action)
        self._steps.append(ActionStep(action=action, result=result))
        self._seen = result.observation
        return result

    def observe(self) -> Observation:
        """The last observation."""
        return self._seen

    async def close(self) -> None:
        """End the session; one that the server has closed already is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._server.ask("DELETE", self._path, Done)
        except NoSuchSession:
            return


class _Said(BaseModel):
    message: str
    code: str | None = None


class _Failure(BaseModel):
    error: _Said
