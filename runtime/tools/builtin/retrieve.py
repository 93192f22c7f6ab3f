"""The retrieve tool: passages of stored texts that speak of a question."""

from typing import Annotated, Final, Literal

from ....configs.errors import AgentFactoryError, SettingsError
from ....configs.roles import RetrieveSettings, StudentSettings
from ....messages.chat import JsonObject
from ....messages.search import Passage, Search
from ....messages.turns import ToolResult
from ...errors import AskTimeout
from ...ref import Ref
from ..base import Tool, ToolError, failed
from ..definition import PlainToolSpec, SharedTool, ToolHost
from ..parameters import OtherNames, Parameter, Parameters

NOTHING: Final = "(no passage fits)"
"""The observation after a search that found nothing."""
_SHORTEST: Final = 40
"""Characters of a passage that are worth showing."""


class RetrieveTool:
    """Searches stored texts; the observation is the passages, each under the blob that it comes from.

    The input is a question, or `tag: question` for one of several tags, or JSON with both.
    """

    name = "retrieve"

    def __init__(self, settings: RetrieveSettings, searcher: Ref) -> None:
        """`searcher` answers Search. Raises SettingsError without a tag to search."""
        if not settings.tags:
            raise SettingsError("student.retrieve.tags is empty: there is nothing for the tool to search")
        self._settings = settings
        self._searcher = searcher
        self.description = describe(settings.tags)
        self._arguments = _arguments(settings.tags)
        self.parameters: JsonObject | None = self._arguments.schema

    def __repr__(self) -> str:
        return f"<RetrieveTool {', '.join(self._settings.tags)}>"

    async def start(self) -> None:
        """Nothing to do: the searcher is ready by itself."""

    async def call(self, text: str) -> ToolResult:
        """Search. An error is an observation."""
        try:
            tag, question = self._read(text)
        except ToolError as error:
            return failed(str(error), error.failure)
        if not question:
            return ToolResult(output="Error: the input is empty; write a question", ok=False, failure="error")
        request = Search(tag=tag, question=question, k=self._settings.passages)
        try:
            result = await self._searcher.ask(request, timeout_s=self._settings.timeout_s)
        except AskTimeout:
            limit = f"{self._settings.timeout_s:g} s"
            return ToolResult(output=f"Error: no answer within {limit}", ok=False, failure="timeout")
        except AgentFactoryError as error:
            return ToolResult(output=f"Error: {error}"[: self._settings.max_chars], ok=False, failure="error")
        return ToolResult(output=show(result.passages, self._settings.max_chars), ok=True)

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _read(self, text: str) -> tuple[str, str]:
        """The tag and the question. Only a tag that may be searched counts as one: questions have colons."""
        text = text.strip()
        tag, colon, rest = text.partition(":")
        if colon and tag.strip() in self._settings.tags:
            return tag.strip(), rest.strip()
        if text.startswith("{"):
            return self._read_json(text)
        return self._settings.tags[0], text

    def _read_json(self, text: str) -> tuple[str, str]:
        """Raises ToolError for what is no object of these arguments."""
        arguments = self._arguments.read(text)
        return str(arguments.get("tag", self._settings.tags[0])), str(arguments["question"]).strip()


def describe(tags: tuple[str, ...]) -> str:
    """What a model is told of the tool, with these tags to search."""
    first, *others = tags or ("none yet",)
    more = f" Write `tag: question` to search another tag: {', '.join(others)}." if others else ""
    return (
        f"looks a question up in stored texts ({first}) and answers with passages, each after the name "
        f"of the text it comes from.{more}"
    )


def _arguments(tags: tuple[str, ...]) -> Parameters:
    question = {"question": Parameter(Annotated[str, OtherNames("query", "input")])}
    if not tags:
        return Parameters(question)
    choice: object = Literal[tags]
    return Parameters({**question, "tag": Parameter(choice, tags[0], "whose texts are searched")})


def show(passages: tuple[Passage, ...], max_chars: int) -> str:
    """The passages as a model reads them, at most `max_chars` long; the best have the room first.

    What looks like a chat template's markup is broken up, so that a text cannot end the turn it is in.
    """
    shown: list[str] = []
    room = max_chars
    for number, passage in enumerate(passages, start=1):
        heading = f", {passage.heading}" if passage.heading else ""
        label = f"[{number}] {passage.tag}/{passage.blob}{heading}\n"
        left = room - len(label) - 1
        if left < _SHORTEST:
            break
        shown.append(label + _shortened(passage.text.replace("<|", "< |"), left))
        room -= len(shown[-1]) + 1
    return "\n".join(shown) or NOTHING


def _shortened(text: str, limit: int) -> str:
    """The text, or its beginning up to a word's end."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    at = max(cut.rfind(" "), cut.rfind("\n"))
    return cut[: at if at > limit // 2 else len(cut)].rstrip() + "…"


def _spec(settings: StudentSettings) -> PlainToolSpec:
    tags = settings.retrieve.tags
    return PlainToolSpec(RetrieveTool.name, describe(tags), _arguments(tags).schema)


def _open(host: ToolHost) -> Tool:
    if host.searcher is None:
        raise SettingsError("student.retrieve.tags names texts to search, but there is no searcher to ask")
    return RetrieveTool(host.settings.retrieve, host.searcher)


RETRIEVE: Final = SharedTool(
    spec=_spec,
    open=_open,
    limits=lambda settings: (settings.retrieve,),
    usable=lambda settings: bool(settings.retrieve.tags),
)
