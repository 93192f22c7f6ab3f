"""Routing: who gets a command, what is asked back, and what is told of it."""

import json
from collections.abc import Sequence

import pytest

from agentfactory.actors.agents.command_parser import VERBS
from agentfactory.actors.agents.routing.dispatcher import CommandDispatcher, split_commands
from agentfactory.actors.agents.routing.embedding_router import EmbeddingRouter, without_names
from agentfactory.actors.agents.routing.llm_router import LlmRouter
from agentfactory.actors.agents.routing.rule_router import RuleRouter
from agentfactory.bridge.search.embedding import NgramEmbedder
from agentfactory.configs.chat_models import OpenAIModelSettings, RetrySettings
from agentfactory.messages.conversations import AgentCard, ClarificationRequest, CommandRouted, Routing
from agentfactory.runtime.llm import open_model
from tests.runtime.llm.model_server import Act, OpenAIWire, serving

ALL = ("assimilate", "query", "retrieve", "prune", "destroy", "list_blobs")
INGESTOR = AgentCard(name="ingestor_agent", actions=("assimilate",))
RETRIEVER = AgentCard(name="retriever_agent", actions=("query", "retrieve", "prune"))
GENERAL = AgentCard(name="iowarp_agent", actions=ALL)
CARDS = (INGESTOR, RETRIEVER, GENERAL)


def decided(command: str, cards: Sequence[AgentCard] = CARDS) -> str:
    """The agent's role, or the candidates that are asked about."""
    return whose(RuleRouter().decide(command, cards))


def whose(routing: Routing) -> str:
    return routing.role if isinstance(routing, CommandRouted) else f"? {', '.join(routing.candidates)}"


class Room:
    """A dispatcher, who is there, and what was published."""

    def __init__(self, *cards: AgentCard) -> None:
        self.cards = list(cards)
        self.told: list[Routing] = []
        rules = RuleRouter()
        self.dispatcher = CommandDispatcher(rules, rules, lambda: self.cards, self._publish)

    async def _publish(self, routing: Routing) -> None:
        self.told.append(routing)

    async def say(self, text: str) -> list[str]:
        return [whose(routing) async for routing in self.dispatcher.route(text)]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (
            "load a.md and b.md as docs, then get a.md from docs",
            ["load a.md and b.md as docs", "get a.md from docs"],
        ),
        ("find salt and pepper", ["find salt and pepper"]),
        ("load a.md and read.md as docs", ["load a.md and read.md as docs"]),
        ("get 'this and get that.md' from docs", ["get 'this and get that.md' from docs"]),
        (
            "First load a as b. Then list everything. finally destroy b",
            ["load a as b", "list everything", "destroy b"],
        ),
        (
            "load x as y; search all data and please prune z from y",
            ["load x as y", "search all data", "please prune z from y"],
        ),
        ("load file::a.md as docs\nquery *", ["load file::a.md as docs", "query *"]),
        (" ; , ", []),
    ],
)
def test_a_sentence_is_cut_where_another_command_begins(text: str, commands: list[str]) -> None:
    assert list(split_commands(text, VERBS)) == commands


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("load file::data/sample_docs/api_reference.md as docs", "ingestor"),
        ("search all data", "retriever"),
        ("get api_reference.md from docs", "retriever"),
        ("could you please prune a.md from docs", "retriever"),
        ("destroy old_experiments", "iowarp"),
        ("search for how to load data", "retriever"),
    ],
)
def test_the_verb_of_a_command_decides(command: str, role: str) -> None:
    assert decided(command) == role


def test_the_reason_names_the_verb() -> None:
    routing = RuleRouter().decide("load a as b", CARDS)
    assert (routing.method, routing.reason) == ("rules", "'load' means assimilate")


def test_a_command_without_a_verb_is_asked_back() -> None:
    assert decided("handle the docs") == "? ingestor_agent, retriever_agent, iowarp_agent"


def test_two_verbs_of_which_neither_leads_are_asked_back() -> None:
    assert decided("either find or load docs") == "? retriever_agent, ingestor_agent"


def test_a_verb_in_quotes_is_a_name() -> None:
    assert decided("'load' and 'get'").startswith("?")


def test_what_no_agent_may_do_is_said_and_not_routed() -> None:
    routing = RuleRouter().decide("destroy docs", (INGESTOR, RETRIEVER))
    assert isinstance(routing, ClarificationRequest)
    assert "No agent here may destroy" in routing.question
    assert routing.candidates == ()


def test_two_agents_of_one_kind_are_asked_about() -> None:
    other = RETRIEVER.model_copy(update={"name": "second_retriever"})
    assert decided("get a from b", (*CARDS, other)) == "? retriever_agent, second_retriever"


def test_an_agents_own_word_is_for_it() -> None:
    own = GENERAL.model_copy(update={"name": "slurper", "words": (("slurp up", "assimilate"),)})
    assert decided("slurp up file::a.md", (*CARDS, own)) == "slurper"


def test_without_agents_one_is_told_how_to_make_one() -> None:
    routing = RuleRouter().decide("do it", ())
    assert isinstance(routing, ClarificationRequest)
    assert "agentfactory create" in routing.question


async def test_each_command_of_a_sentence_is_routed_and_published() -> None:
    room = Room(*CARDS)
    assert await room.say("load a as b, then get a from b") == ["ingestor", "retriever"]
    assert [told.command for told in room.told] == ["load a as b", "get a from b"]


async def test_what_follows_an_unclear_command_is_left_undone() -> None:
    assert await Room(*CARDS).say("handle it; destroy docs") == [
        "? ingestor_agent, retriever_agent, iowarp_agent"
    ]


async def test_an_agent_that_is_added_meanwhile_is_found() -> None:
    room = Room(INGESTOR)
    assert await room.say("get a from b") == ["? "]
    room.cards.append(RETRIEVER)
    assert await room.say("get a from b") == ["retriever"]


@pytest.mark.parametrize("answer", ["retriever_agent", "retriever", "the Retriever agent.", "@retriever"])
async def test_the_answer_to_a_question_carries_its_command(answer: str) -> None:
    room = Room(*CARDS)
    await room.say("handle the docs")
    assert await room.say(answer) == ["retriever"]
    assert room.told[-1].command == "handle the docs"


async def test_a_question_is_forgotten_when_something_else_is_said() -> None:
    room = Room(*CARDS)
    await room.say("handle the docs")
    await room.say("search all data")
    assert (await room.say("retriever"))[0].startswith("?")


@pytest.mark.parametrize(
    "text", ["ingestor: search all", "@ingestor_agent: search all", "ask the ingestor to search all"]
)
async def test_whoever_is_named_gets_the_command(text: str) -> None:
    room = Room(*CARDS)
    assert await room.say(text) == ["ingestor"]
    assert (room.told[0].command, room.told[0].method) == ("search all", "named")


async def test_a_uri_is_not_taken_for_a_name() -> None:
    room = Room(*CARDS, GENERAL.model_copy(update={"name": "file"}))
    assert (await room.say("file::a.md"))[0].startswith("?")


def test_names_say_nothing_about_meaning() -> None:
    assert without_names("fetch 'a b' and file::x/y.md of folder::z") == "fetch it and a file of a folder"


async def by_meaning(command: str) -> str:
    router = EmbeddingRouter(RuleRouter(), NgramEmbedder)
    return whose(await router.route(command, CARDS))


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("import these documents: file::a.md", "ingestor"),
        ("upload folder::notes", "ingestor"),
        ("show me what setup_guide.md says", "retriever"),
        ("fetch a.md", "retriever"),
        ("evict a.md from the cache", "retriever"),
        ("erase everything under tmp", "iowarp"),
    ],
)
async def test_without_a_known_verb_likeness_decides(command: str, role: str) -> None:
    assert await by_meaning(command) == role


async def test_what_is_like_nothing_is_asked_back() -> None:
    assert (await by_meaning("why is the sky blue?")).startswith("?")


async def test_likeness_leaves_known_verbs_to_the_rules() -> None:
    def never() -> NgramEmbedder:
        raise AssertionError("nothing had to be compared")

    routing = await EmbeddingRouter(RuleRouter(), never).route("load a as b", CARDS)
    assert (whose(routing), routing.method) == ("ingestor", "rules")


async def by_model(*replies: str, command: str = "look after the docs", status: int = 200) -> list[Routing]:
    """What a router makes of a model's replies."""
    acts = [Act(pieces=(reply,), status=status) for reply in replies]
    async with serving(OpenAIWire()) as server:
        server.script = acts
        settings = OpenAIModelSettings(
            model="m", base_url=f"{server.url}/v1", retry=RetrySettings(attempts=1)
        )
        async with open_model(settings) as model:
            router = LlmRouter(RuleRouter(), model)
            return [await router.route(command, CARDS) for _ in replies]


async def test_a_model_chooses_by_name_and_says_why() -> None:
    (routing,) = await by_model('Sure: {"agent": "retriever", "reason": "it is about finding"}')
    assert (whose(routing), routing.method, routing.reason) == ("retriever", "model", "it is about finding")


async def test_a_model_may_ask_back() -> None:
    (routing,) = await by_model(json.dumps({"agent": "ask", "reason": "Load them or find them?"}))
    assert isinstance(routing, ClarificationRequest)
    assert routing.question.startswith("Load them or find them?")


@pytest.mark.parametrize("reply", ["I do not know", '{"agent": "nobody_agent"}', '{"agent": 3}', "{" * 5000])
async def test_the_rules_decide_where_the_reply_is_no_choice(reply: str) -> None:
    (routing,) = await by_model(reply, command="search all data")
    assert whose(routing) == "retriever"
    assert routing.reason.startswith("by the rules")


async def test_the_rules_decide_where_the_model_does_not_answer() -> None:
    (routing,) = await by_model("", command="search all data", status=500)
    assert whose(routing) == "retriever"
    assert "did not choose" in routing.reason
