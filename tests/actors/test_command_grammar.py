"""The grammar of commands: from each phrasing the intended action, from garbage nothing that removes."""

import re
import string
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentfactory.actors.agents.base import NotUnderstood
from agentfactory.actors.agents.command_grammar import COURTESY, MARKERS, NEGATIONS
from agentfactory.actors.agents.command_parser import VERBS, CommandParser
from agentfactory.messages.data import Action, Format

RULES = CommandParser()
REMOVES = ("prune", "destroy")
OURS = {
    *get_args(Format), *VERBS, *COURTESY, *NEGATIONS, *MARKERS,
    *"as into to under in from within inside and with for of the a an all".split(),  # noqa: SIM905
    *"everything anything every each whatever".split(),  # noqa: SIM905
    *"tag tags tagged blob blobs file files document documents data content contents cache".split(),  # noqa: SIM905
    *"store stored folder directory pattern patterns matching like called named some please me us".split(),  # noqa: SIM905
    *"now thanks too".split(),  # noqa: SIM905
    *"force directly direct skip no without bypass format iowarp".split(),  # noqa: SIM905
    *"it them this that these those thing things stuff entries something any old unused rest others".split(),  # noqa: SIM905
    *"mine both none nothing my our your his her its their other another one ones".split(),  # noqa: SIM905
}  # fmt: skip


def read(text: str, rules: CommandParser = RULES) -> Action:
    return rules.read(text).action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (
            "Load markdown files from folder::/d into tag: docs",
            Action.of("assimilate", src="folder::/d", dst="docs"),
        ),
        ("import data from file::/x.csv", Action.of("assimilate", src="file::/x.csv", dst="default")),
        ("load the files in folder::/d, and file::x.md into docs",
         Action.of("assimilate", src=("folder::/d", "file::x.md"), dst="docs")),
        ("load src=file::x dst=y", Action.of("assimilate", src="file::x", dst="y")),
        ("ingest file::a into tag:t format:text",
         Action.of("assimilate", src="file::a", dst="t", format="text")),
        ("load folder::/d as docs in binary format",
         Action.of("assimilate", src="folder::/d", dst="docs", format="binary")),
        ("query pattern: docs*", Action.of("query", tag_pattern="docs*")),
        ("query tag docs", Action.of("query", tag_pattern="docs")),
        ("find all tags matching d*", Action.of("query", tag_pattern="d*")),
        ("find pattern: a* in docs", Action.of("query", tag_pattern="docs", blob_pattern="a*")),
        ("search for data tagged 'docs'", Action.of("query", tag_pattern="docs")),
        ("list everything stored", Action.of("list_blobs", tag_pattern="*")),
        ("list everything under tag docs", Action.of("list_blobs", tag_pattern="docs")),
        ("tag: docs", Action.of("query", tag_pattern="docs")),
        ("tag=d[o]cs", Action.of("query", tag_pattern="d[[]o]cs")),
        ("tags=docs", Action.of("query", tag_pattern="docs")),
        ("retrieve blob: readme.md from tag: docs", Action.of("retrieve", tag="docs", blob_name="readme.md")),
        ("retrieve tag: docs blob: readme.md", Action.of("retrieve", tag="docs", blob_name="readme.md")),
        ("get the file readme.md", Action.of("retrieve", tag="default", blob_name="readme.md")),
        ("fetch blob readme.md tag docs", Action.of("retrieve", tag="docs", blob_name="readme.md")),
        ("read notes.md from 'exp:1'", Action.of("retrieve", tag="exp:1", blob_name="notes.md")),
        ("get a.md from docs from iowarp", Action.of("retrieve", tag="docs", blob_name="a.md", force=True)),
        ("bypass cache get a.md from docs", Action.of("retrieve", tag="docs", blob_name="a.md", force=True)),
        ("evict a.md from docs", Action.of("prune", tag="docs", blob_names=("a.md",))),
        ("prune tag: X blob: a.md", Action.of("prune", tag="X", blob_names=("a.md",))),
        ("evict docs/a.md, please", Action.of("prune", tag="docs", blob_names=("a.md",))),
        ("remove docs", Action.of("destroy", tags=("docs",))),
        ("could you please remove the tag docs now", Action.of("destroy", tags=("docs",))),
        ("delete the docs tag", Action.of("destroy", tags=("docs",))),
        ("remove tag: nothing", Action.of("destroy", tags=("nothing",))),
        ("can you get me the file a.md from docs please?",
         Action.of("retrieve", tag="docs", blob_name="a.md")),
        ("what's in docs?", Action.of("query", tag_pattern="docs")),
        ("query docs?", Action.of("query", tag_pattern="docs?")),
        ("find *.csv files in docs", Action.of("query", tag_pattern="docs", blob_pattern="*.csv")),
        ("evict blobs a.md, b.md from docs", Action.of("prune", tag="docs", blob_names=("a.md", "b.md"))),
        ("evict the files a.md and b.md from docs",
         Action.of("prune", tag="docs", blob_names=("a.md", "b.md"))),
    ],
)  # fmt: skip
def test_what_is_marked_or_has_a_scheme_counts(text: str, action: Action) -> None:
    assert read(text) == action


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prune tag: X", "prune what"),
        ("prune docs", "prune which blobs, of which tag"),
        ("prune *.md from docs", "is no name"),
        ("load file::a.md into bucket: docs", "unknown marker 'bucket:'"),
        ("query bucket: docs", "unknown marker 'bucket:'"),
        ("load https://example.org/a as docs", "unknown marker 'https:'"),
        ("load folder::/d recursively into docs", "'folder::/d recursively' is several words"),
        ("load a.md from folder::/d into docs", "what is 'a.md'"),
        ("load file::a.md as my docs", "'my docs' is several words"),
        ("load the CSV files", "load which CSV files"),
        ("load file::a.md as docs and delete tmp", "several words"),
        ("load file::a format: xml as docs", "format: expected one of"),
        ("get all from docs", "get which blobs"),
        ("fetch the data", "fetch what"),
        ("get a.md and b.md from docs", "one blob at a time"),
        ("get a.md from", "a name is missing behind 'from'"),
        ("don't delete docs", "don't delete"),
        ("do not load file::a.md", "not load"),
        ("what does delete docs do", "begins with its verb"),
        ("delete docs?", "is no name"),
        ("delete file::a.md", "is no name"),
        ("delete docs maybe", "several words"),
        ("remove old entries", "several words"),
        ("remove it", "remove what"),
        ("delete the tags", "delete what"),
        ("destroy my tag", "destroy what"),
        ("remove docs from the cache", "no action deletes single blobs"),
        ("delete file a.md", "no action deletes single blobs"),
        ("find and delete docs", "several words"),
        ("can you delete docs?", "'docs?' is no name"),
        ("delete nothing", "delete what?"),
        ("remove whatever", "remove what?"),
        ("delete files report", "no action deletes single blobs"),
        ("prune files from docs", "prune which blobs?"),
        ("get documents from docs", "get which blobs?"),
        ("find all csv files in docs", "find which 'csv'? Say a pattern of names, as `*csv*`"),
        ("load s3://bucket/x as s", "'s3://bucket/x' is no source"),
    ],
)
def test_what_has_no_place_in_the_grammar_is_asked_back(text: str, says: str) -> None:
    with pytest.raises(NotUnderstood, match=re.escape(says)):
        read(text)


@st.composite
def words(draw: st.DrawFn) -> str:
    """A name that needs no quotes."""
    name = draw(st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=16))
    assume(name[-1] not in ".-" and name.lower() not in OURS and name.strip("."))
    return name


@st.composite
def names(draw: st.DrawFn) -> tuple[str, str]:
    """A name, and how it is written."""
    if draw(st.booleans()):
        plain = draw(words())
        return plain, plain
    name = " ".join(draw(st.lists(st.one_of(words(), st.sampled_from(sorted(OURS))), min_size=1, max_size=3)))
    quote = draw(st.sampled_from("\"'"))
    return name, f"{quote}{name}{quote}"


POLITE = st.sampled_from(("", "please ", "could you ", "I want to ", "now "))
ENDINGS = st.sampled_from(("", ".", "!", " please", ", please", " now"))
TAGS = st.sampled_from(("{}", "tag: {}", "tag:{}", "tag {}", "the tag {}", "tag={}"))


def cased(draw: st.DrawFn, action: str) -> str:
    verb = draw(st.sampled_from(sorted(verb for verb, name in VERBS.items() if name == action)))
    return draw(st.sampled_from((verb, verb.upper(), verb.capitalize())))


@given(data=st.data())
def test_whatever_the_phrasing_the_intended_source_and_tag_are_loaded(data: st.DataObject) -> None:
    draw = data.draw
    (tag, written), path = draw(names()), draw(words())
    scheme = draw(st.sampled_from(("file::", "folder::", "hdf5::", "mem::t/")))
    about = draw(
        st.sampled_from(("", "the ", "markdown files from ", "all the new data from ", "documents in "))
    )
    where = draw(st.sampled_from(("into", "as", "to", "under")))
    command = (
        f"{draw(POLITE)}{cased(draw, 'assimilate')} {about}{scheme}{path} {where} "
        f"{draw(TAGS).format(written)}{draw(ENDINGS)}"
    )
    assert read(command) == Action.of("assimilate", src=f"{scheme}{path}", dst=tag), command


@given(data=st.data())
def test_whatever_the_phrasing_the_intended_blob_is_fetched_or_forgotten(data: st.DataObject) -> None:
    draw = data.draw
    (tag, written), (blob, called) = draw(names()), draw(names())
    action = draw(st.sampled_from(("retrieve", "prune")))
    what = draw(st.sampled_from(("{}", "blob: {}", "blob:{}", "the blob {}", "file {}", "blob={}"))).format(
        called
    )
    whose = draw(TAGS).format(written)
    verb = cased(draw, action)
    from_ = draw(st.sampled_from((" from", " in")))
    command = f"{draw(POLITE)}{verb} {what}{from_} {whose}{draw(ENDINGS)}"
    named = {"blob_name": blob} if action == "retrieve" else {"blob_names": (blob,)}
    assert read(command) == Action.of(action, tag=tag, **named), command


@given(data=st.data())
def test_whatever_the_phrasing_the_intended_tags_are_found_or_destroyed(data: st.DataObject) -> None:
    draw = data.draw
    (tag, written), whose = draw(names()), draw(TAGS)
    looked = draw(st.sampled_from(("query", "list_blobs")))
    assert read(f"{draw(POLITE)}{cased(draw, looked)} tag: {written}") == Action.of(looked, tag_pattern=tag)
    command = f"{draw(POLITE)}{cased(draw, 'destroy')} {whose.format(written)}{draw(ENDINGS)}"
    assert read(command) == Action.of("destroy", tags=(tag,)), command
    (other, also) = draw(names())
    joint = draw(st.sampled_from((", ", " and ", " & ")))
    command = f"{cased(draw, 'destroy')} {written}{joint}{also}"
    assert read(command) == Action.of("destroy", tags=(tag, other)), command


STRAY = st.one_of(
    words(),
    st.sampled_from(("not", "never", "maybe", "don't", "if", "what", "?", "later", "than", "bucket:")),
)


@given(data=st.data())
def test_a_stray_word_in_a_command_that_removes_leaves_nothing_that_removes(data: st.DataObject) -> None:
    draw = data.draw
    tag, blob, stray = draw(words()), draw(words()), draw(STRAY)
    command = draw(
        st.sampled_from(
            (
                ["destroy", tag],
                ["please", "delete", "tag:", tag],
                ["remove", "the", "tag", tag],
                ["prune", blob, "from", tag],
                ["evict", "blob:", blob, "from", "tag:", tag],
            )
        )
    )
    at = draw(st.integers(0, len(command)))
    text = " ".join((*command[:at], stray, *command[at:]))
    try:
        action = read(text)
    except NotUnderstood:
        return
    assert action.name not in REMOVES, text


VOCABULARY = st.one_of(
    st.sampled_from(sorted(OURS)),
    st.sampled_from([f"{marker}:" for marker in sorted(MARKERS)]),
    st.sampled_from(
        ("file::a.md", "folder::/d", "a.md", "docs", "*", "docs*", ",", "?", "t/a.md", "bucket:")
    ),
    words(),
)
LISTED = re.compile(r"(?:,| and | & )")


@given(st.lists(VOCABULARY, max_size=9))
def test_from_garbage_comes_nothing_that_removes_more_than_it_names(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        action = read(text)
    except NotUnderstood:
        return
    if action.name not in REMOVES:
        return
    verb = next(at for at, piece in enumerate(pieces) if VERBS.get(piece.lower()))
    assert all(piece.lower() in COURTESY or piece == "," for piece in pieces[:verb]), text
    named = [
        name for _, value in action.params for name in ([value] if isinstance(value, str) else value or ())
    ]
    known = {
        "the",
        "tag",
        "tags",
        "blob",
        "file",
        "document",
        "from",
        "in",
        "under",
        "within",
        "inside",
        "and",
    }
    known |= {f"{marker}:" for marker in MARKERS} | {"please", "now", "thanks", "too", "called", "named", ","}
    for piece in pieces[verb + 1 :]:
        assert piece.lower() in known or piece in named or "/".join(named[:2]) == piece, text
    assert not {"*", "docs*", "all", "everything", "file::a.md", "folder::/d"}.intersection(named), text


@given(text=st.text(max_size=120))
def test_from_any_text_at_all_comes_nothing_that_removes_without_its_verb(text: str) -> None:
    try:
        action = read(text)
    except NotUnderstood:
        return
    if action.name in REMOVES:
        assert re.search(r"(?i)\b(prune|evict|delete|destroy|remove)\b|blob_names=", text)
