"""The language of commands: the seeds' sentences, and names of every kind."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentfactory.actors.agents.base import NotUnderstood
from agentfactory.actors.agents.command_parser import VERBS, CommandParser
from agentfactory.actors.environment import ACTIONS
from agentfactory.messages.data import Action

RULES = CommandParser()


def read(text: str, rules: CommandParser = RULES) -> Action:
    return rules.read(text).action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (
            "ingest file::data/sample_docs/api_reference.md as docs",
            Action.of("assimilate", src="file::data/sample_docs/api_reference.md", dst="docs"),
        ),
        ("load file::data.md as docs", Action.of("assimilate", src="file::data.md", dst="docs")),
        (
            "ingest /path/to/docs into tag: docs",
            Action.of("assimilate", src="folder::/path/to/docs", dst="docs"),
        ),
        ("load notes.md", Action.of("assimilate", src="file::notes.md", dst="default")),
        (
            "Please load file::a.md, file::b.md and folder::c to v1.2-rc_3",
            Action.of("assimilate", src=("file::a.md", "file::b.md", "folder::c"), dst="v1.2-rc_3"),
        ),
        (
            "load file::my docs/a b.md as docs format text",
            Action.of("assimilate", src="file::my docs/a b.md", dst="docs", format="text"),
        ),
        ("query docs", Action.of("query", tag_pattern="docs")),
        ("search all data", Action.of("query", tag_pattern="*")),
        ("find *.md in docs", Action.of("query", tag_pattern="docs", blob_pattern="*.md")),
        ("find *.md", Action.of("query", tag_pattern="*", blob_pattern="*.md")),
        ("find file a.md", Action.of("query", tag_pattern="*", blob_pattern="a.md")),
        ("query docs/a*", Action.of("query", tag_pattern="docs", blob_pattern="a*")),
        ("what is in docs", Action.of("query", tag_pattern="docs")),
        ("hello there", Action.of("query", tag_pattern="*")),
        ("", Action.of("query", tag_pattern="*")),
        ("get api_reference.md from docs", Action.of("retrieve", tag="docs", blob_name="api_reference.md")),
        ("retrieve file.md from tag: docs", Action.of("retrieve", tag="docs", blob_name="file.md")),
        ("GET My Notes.md from Docs.", Action.of("retrieve", tag="Docs", blob_name="My Notes.md")),
        ("get docs/sub/a.md", Action.of("retrieve", tag="docs", blob_name="sub/a.md")),
        ("get a.md", Action.of("retrieve", tag="default", blob_name="a.md")),
        ("get data from docs", Action.of("retrieve", tag="docs", blob_name="data")),
        ("prune api.md from docs", Action.of("prune", tag="docs", blob_names=("api.md",))),
        ("prune a, b and c.md from docs", Action.of("prune", tag="docs", blob_names=("a", "b", "c.md"))),
        ("destroy old_experiments", Action.of("destroy", tags=("old_experiments",))),
        ("delete docs and old.docs", Action.of("destroy", tags=("docs", "old.docs"))),
        ("list", Action.of("list_blobs", tag_pattern="*")),
        ("list all blobs in docs", Action.of("list_blobs", tag_pattern="docs")),
        ("src=folder::my docs | dst=docs", Action.of("assimilate", src="folder::my docs", dst="docs")),
        ("tag=docs | blob_name=a.md", Action.of("retrieve", tag="docs", blob_name="a.md")),
        ("tag=docs | blob_names=a.md, b.md", Action.of("prune", tag="docs", blob_names=("a.md", "b.md"))),
        ("tag_pattern=docs", Action.of("query", tag_pattern="docs")),
    ],
)  # fmt: skip
def test_a_sentence_means_one_action(text: str, action: Action) -> None:
    assert read(text) == action


@pytest.mark.parametrize(
    "text",
    [
        "force get a.md from docs",
        "get a.md from docs, skip cache",
        "get a.md from docs no cache",
        "get a.md from docs without the cache",
        "get a.md directly from docs",
        "directly retrieve docs/a.md",
    ],
)
def test_some_words_go_past_the_cache(text: str) -> None:
    assert read(text) == Action.of("retrieve", tag="docs", blob_name="a.md", force=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("get", "get what?"),
        ("load as docs", "load what?"),
        ("prune all from docs", "prune which blobs?"),
        ("destroy", "destroy what?"),
        ("destroy everything", "destroy what?"),
        ("delete a.md from docs", "no action deletes single blobs"),
        ("x" * 4001, "at most 4,000"),
    ],
)
def test_what_does_not_say_enough_is_said_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(NotUnderstood, match=says):
        read(text)


def test_a_verb_is_a_whole_word() -> None:
    assert read("load file::get/list.md as query").name == "assimilate"
    assert read("reloading docs").name == "query"


def test_a_blueprint_says_what_is_left_open_and_brings_words_of_its_own() -> None:
    rules = CommandParser("notes", "binary", "work*", own=(("bring me", "retrieve"), ("list", "query")))
    assert read("load a.md", rules) == Action.of("assimilate", src="file::a.md", dst="notes", format="binary")
    assert read("search", rules) == Action.of("query", tag_pattern="work*")
    assert read("Bring me a.md", rules) == Action.of("retrieve", tag="notes", blob_name="a.md")
    assert read("list all", rules) == Action.of("query", tag_pattern="*")


PLAIN = string.ascii_letters + string.digits + "_-."
OURS = {
    *VERBS, "all", "everything", "anything", "and", "format", "cache",
    *"as into to under in from within inside force directly direct skip-cache no-cache".split(),  # noqa: SIM905
    *"skip no without bypass it them this that these those".split(),  # noqa: SIM905
    *"nothing none something whatever".split(),  # noqa: SIM905
}  # fmt: skip


@st.composite
def plain_names(draw: st.DrawFn) -> str:
    """Letters, digits, dots and dashes; no word of the language, and no dot at the end."""
    name = draw(st.text(PLAIN, min_size=1, max_size=24))
    assume(name[-1] not in ".-" and name.lower() not in OURS)
    return name


@st.composite
def any_names(draw: st.DrawFn) -> str:
    """Also blanks, and words of the language."""
    words = draw(st.lists(st.one_of(plain_names(), st.sampled_from(sorted(OURS))), min_size=1, max_size=4))
    return " ".join(words)


@given(blob=plain_names(), tag=plain_names())
def test_plain_names_need_no_quotes(blob: str, tag: str) -> None:
    assert read(f"get {blob} from {tag}") == Action.of("retrieve", tag=tag, blob_name=blob)
    assert read(f"prune {blob} from {tag}") == Action.of("prune", tag=tag, blob_names=(blob,))
    assert read(f"destroy {tag}") == Action.of("destroy", tags=(tag,))
    assert read(f"load file::{blob} as {tag}") == Action.of("assimilate", src=f"file::{blob}", dst=tag)


@given(blob=any_names(), tag=any_names(), quote=st.sampled_from("\"'"))
def test_names_in_quotes_may_be_anything(blob: str, tag: str, quote: str) -> None:
    b, t = f"{quote}{blob}{quote}", f"{quote}{tag}{quote}"
    assert read(f"get {b} from {t}") == Action.of("retrieve", tag=tag, blob_name=blob)
    assert read(f"get {b} from tag: {t} directly").params[-1] == ("force", True)
    assert read(f"prune {b}, {b} from {t}") == Action.of("prune", tag=tag, blob_names=(blob, blob))
    assert read(f"find {b} in {t}") == Action.of("query", tag_pattern=tag, blob_pattern=blob)
    assert read(f"destroy {t}, {b}") == Action.of("destroy", tags=(tag, blob))
    assert read(f"load file::{b} as {t}") == Action.of("assimilate", src=f"file::{blob}", dst=tag)


@given(text=st.text(max_size=200))
def test_any_text_is_an_action_that_fits_or_a_sentence(text: str) -> None:
    try:
        action = read(text)
    except NotUnderstood:
        return
    ACTIONS[action.name].model_validate(dict(action.params))
    assert read(text) == action
