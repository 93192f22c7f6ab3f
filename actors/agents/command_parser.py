"""Language of commands: from a sentence to an action, without any model.

    ingest|load|import SOURCE[, SOURCE…] [as|into|to TAG] [format X]
    find|query|search [BLOBS in] TAGS          globs; `all` for everything
    list [BLOBS in] TAGS                       the same, asked of the store
    get|retrieve|fetch|read BLOB from TAG      or TAG/BLOB; `force`, `skip cache`, `no cache`, `directly`
    prune|evict BLOB[, BLOB…] from TAG         or TAG/BLOB
    delete|destroy|remove TAG[, TAG…]

The first verb counts; without one it is a query. What removes something stands alone: polite words may go
with it, and nothing else. Names may be marked, as in `get blob: NAME tag: TAG`; `command_grammar`
has the grammar. `key=value | key=value`, as pipelines write, is taken as it stands.

Invariants: the same text gives the same action, whatever is stored and whoever asks; a word that the grammar
has no place for is asked back, never taken for a name.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ...messages.data import Action, Format, Param
from .base import Decision, NotUnderstood
from .command_grammar import (
    ARTICLES,
    COURTESY,
    MANY_BLOBS,
    MARKERS,
    NEGATIONS,
    CommandPart,
    Operands,
    check_markers,
    describes,
    everything,
    only_fillers,
    parse_operands,
    without_past_cache,
)
from .command_tokenizer import MAX_CHARACTERS, Word, join_words, split_list, tokenize, without_question_mark

_PATH: Final = re.compile(r"[.~]?.*/.*|\.{1,2}|.*[\w)\]-]\.[A-Za-z0-9]{1,8}")


def find_sources(operands: Operands) -> tuple[str, ...]:
    """The URIs that a command names, in order. Raises NotUnderstood.

    Where one has a scheme, words without one that do not look like a path only describe it.
    """
    operands.allow("bare", "place", "origin", "tag", "blob", "source")
    if operands.words("origin") and (bare := [word for word in operands.words("bare") if _is_path(word)]):
        raise NotUnderstood(
            f"{operands.verb}: what is {join_words(bare)!r}? Say where it is in full, as file::PATH"
        )
    told = any(_has_scheme(word) for part in operands.parts for word in part.words if part.slot != "tag")
    told = told or any(part.slot in ("origin", "source", "blob") for part in operands.parts)
    return tuple(
        uri
        for part in operands.parts
        if part.slot != "tag"
        for group in split_list(part.words)
        for uri in _uris(operands, part, group, told=told)
    )


def find_target_tag(operands: Operands) -> str:
    """The tag that a command to load names; empty if it names none. Raises NotUnderstood."""
    places = tuple(
        part
        for part in operands.parts
        if part.slot == "tag" or (part.slot == "place" and not any(map(_has_scheme, part.words)))
    )
    return operands.with_parts(places).one("tag", "place", "tag")


def _uris(operands: Operands, part: CommandPart, group: list[Word], *, told: bool) -> list[str]:
    begins = [at for at, word in enumerate(group) if _has_scheme(word)]
    if begins:
        _check_description(group[: begins[0]])
        ends = [*begins[1:], len(group)]
        return [operands.name_in(group[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    if part.slot == "place" or only_fillers(group):
        return []
    if part.slot == "bare" and told and not any(map(_is_path, group)):
        return []  # a description, such as "the new markdown files from"
    named = [word for word in group if not word.among(ARTICLES)]
    if len(named) > 1 and not any(map(_is_path, named)):
        raise NotUnderstood(f"{operands.verb} which {join_words(named)}? Say where it is, as file::PATH")
    name = operands.name_in(group)
    if "://" in name:
        raise NotUnderstood(f"{operands.verb}: {name!r} is no source; say a scheme, as file::PATH")
    return [_with_scheme(name)] if name else []


def _check_description(words: Sequence[Word]) -> None:
    """Check that the words before a source only describe it. Raises NotUnderstood."""
    for word in words:
        if _is_path(word):
            raise NotUnderstood(f"what is {word.text!r}? Sources are parted by commas, or by `and`")


def _has_scheme(word: Word) -> bool:
    return "::" in word.text


def _is_path(word: Word) -> bool:
    return word.quoted or bool(_PATH.fullmatch(word.text))


def _with_scheme(name: str) -> str:
    """A URI. A path without a scheme is a file if it has a suffix, else a folder."""
    last = name.rstrip("/").rpartition("/")[2]
    return f"file::{name}" if "." in last.strip(".") and not name.endswith("/") else f"folder::{name}"


VERBS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ingest", "load", "assimilate", "import"), "assimilate"),
    **dict.fromkeys(("find", "query", "search"), "query"),
    **dict.fromkeys(("get", "retrieve", "fetch", "read"), "retrieve"),
    **dict.fromkeys(("prune", "evict"), "prune"),
    **dict.fromkeys(("delete", "destroy", "remove"), "destroy"),
    **dict.fromkeys(("list", "list_blobs"), "list_blobs"),
}
_REMOVES: Final = frozenset(("prune", "destroy"))
_THE_STORE: Final = frozenset(("iowarp", "store"))
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "assimilate": frozenset(("src", "dst", "format")),
    "retrieve": frozenset(("tag", "blob_name", "force")),
    "prune": frozenset(("tag", "blob_names")),
    "query": frozenset(("tag_pattern", "blob_pattern")),
}
"""In the order in which they are recognized by their keys. What destroys is always said with a verb."""
_LISTS: Final = ("src", "blob_names")
_PAIR: Final = re.compile(r"\s*([a-z_]+)=(.*)", re.DOTALL)


class _Verb(NamedTuple):
    """Position of a command's verb, and the action that it means."""

    begin: int
    end: int
    name: str


@dataclass(frozen=True)
class CommandParser:
    """Parser of commands: its verbs, and the defaults for what a command leaves open."""

    default_tag: str = "default"
    """Tag of a blob that is named without one."""
    default_format: Format | None = None
    """None: the Ingestor's own."""
    default_pattern: str = "*"
    """The tags that a query or a listing asks for that names none."""
    own: tuple[tuple[str, str], ...] = ()
    """Further words, or several in a row, and the actions that they mean; they come before `VERBS`."""

    def read(self, text: str) -> Decision:
        """The action that a command asks for. Raises NotUnderstood."""
        if len(text) > MAX_CHARACTERS:
            raise NotUnderstood(
                f"the command has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read"
            )
        named = self._named(text)
        if named is not None:
            return Decision(f"named parameters of {named.name}", named)
        words = tokenize(text, MARKERS)
        check_markers(words)
        asked = without_question_mark(words)
        verb = self._verb(asked)
        if verb is None or verb.name not in _REMOVES:
            words = asked
        if verb is None:
            return Decision("no verb of the language: query", self._without_verb(words))
        said = join_words(words[verb.begin : verb.end]).lower()
        _check_beginning(words[: verb.begin], said, removes=verb.name in _REMOVES)
        return Decision(f"{said!r} means {verb.name}", self._action(verb, words, said))

    def _verb(self, words: list[Word]) -> _Verb | None:
        """The first verb; where several stand at one place, our own, and the longest."""
        own = sorted(self.own, key=lambda pair: -len(pair[0].split()))
        for at, word in enumerate(words):
            for said, name in own:
                phrase = said.lower().split()
                found = words[at : at + len(phrase)]
                if [each.key for each in found] == phrase:
                    return _Verb(at, at + len(phrase), name)
            if word.among(VERBS):
                return _Verb(at, at + 1, VERBS[word.key])
        return None

    def _action(self, verb: _Verb, words: list[Word], said: str) -> Action:
        load = verb.name == "assimilate"
        operands = parse_operands(words[verb.end :], said, into=load, removes=verb.name in _REMOVES)
        match verb.name:
            case "assimilate":
                return self._assimilate(operands)
            case "retrieve":
                forced = without_past_cache(words[: verb.begin])[1]
                return self._retrieve(operands, forced)
            case "prune":
                return self._prune(operands)
            case "destroy":
                return _destroy(operands)
        return self._search(verb.name, operands)

    def _assimilate(self, operands: Operands) -> Action:
        sources = find_sources(operands)
        if not sources:
            raise NotUnderstood(f"{operands.verb} what? Say `{operands.verb} file::PATH as TAG`")
        params: dict[str, Param] = {"src": sources if len(sources) > 1 else sources[0]}
        params["dst"] = find_target_tag(operands) or self.default_tag
        if chosen := operands.format or self.default_format:
            params["format"] = chosen
        return Action.of("assimilate", **params)

    def _retrieve(self, operands: Operands, forced: bool) -> Action:
        operands, past = _without_the_store(operands)
        tag, names = self._placed(operands)
        if len(names) > 1:
            raise NotUnderstood(f"{operands.verb}: one blob at a time, found {', '.join(names)}")
        force: dict[str, Param] = {"force": True} if forced or past or operands.past_cache else {}
        return Action.of("retrieve", tag=tag, blob_name=names[0], **force)

    def _prune(self, operands: Operands) -> Action:
        tag, names = self._placed(operands)
        return Action.of("prune", tag=tag, blob_names=names)

    def _placed(self, operands: Operands) -> tuple[str, tuple[str, ...]]:
        """A tag, and the names of blobs under it. Raises NotUnderstood."""
        verb = operands.verb
        operands.allow("bare", "place", "tag", "blob")
        bare = operands.words("bare")
        if everything(bare) or (bare and all(word.among(MANY_BLOBS) for word in bare)):
            raise NotUnderstood(f"{verb} which blobs? Say `{verb} NAME from TAG`")
        marked = operands.names("blob")
        if marked and not only_fillers(bare):
            raise NotUnderstood(f"{verb}: what is {join_words(bare)!r}? Say `{verb} blob: NAME tag: TAG`")
        names = marked or operands.names("bare")
        tag = operands.one("tag", "place", "tag")
        if not tag and (path := operands.path()):
            tag, names = path[0], (path[1],)
        if not names:
            raise NotUnderstood(f"{verb} what? Say `{verb} NAME from TAG`")
        if not tag and operands.removes and not (marked or all("." in name for name in names)):
            raise NotUnderstood(f"{verb} which blobs, of which tag? Say `{verb} NAME from TAG`")
        return tag or self.default_tag, names

    def _without_verb(self, words: list[Word]) -> Action:
        """A query of what is marked, or stands behind a preposition; of all there is, otherwise."""
        operands = parse_operands(words, "query", into=False, removes=False)
        kept = tuple(part for part in operands.parts if part.slot != "bare")
        return self._search("query", operands.with_parts(kept))

    def _search(self, name: str, operands: Operands) -> Action:
        operands.allow("bare", "place", "tag", "blob", "pattern")
        tag = operands.one("tag", "place", "tag")
        blob, pattern = operands.one("blob", "blob"), operands.one("pattern", "pattern")
        if not tag and not blob and not pattern and (path := operands.path()):
            tag, blob = path
        elif bare := _pattern(operands):
            if tag and describes(operands.words("bare")) and not glob.has_magic(bare):
                raise NotUnderstood(f"{operands.verb} which {bare!r}? Say a pattern of names, as `*{bare}*`")
            tag, blob = self._placed_pattern(operands, tag, blob, bare)
        if pattern:
            tag, blob = (tag, pattern) if tag or pattern.startswith("*.") else (pattern, blob)
        everywhere = everything(operands.words("place"))
        params: dict[str, Param] = {"tag_pattern": "*" if everywhere else tag or self._open_pattern(operands)}
        if blob and blob != "*":
            params["blob_pattern"] = blob
        return Action.of(name, **params)

    def _open_pattern(self, operands: Operands) -> str:
        return "*" if everything(operands.words("bare")) else self.default_pattern

    @staticmethod
    def _placed_pattern(operands: Operands, tag: str, blob: str, bare: str) -> tuple[str, str]:
        """A pattern without a marker: of blobs if it looks so, or if the tag is named."""
        if tag and blob:
            raise NotUnderstood(f"{operands.verb}: what is {bare!r} beside {blob!r} in {tag!r}?")
        if blob:
            return bare, blob
        about_blobs = bool(tag) or bare.startswith("*.")
        return (tag, bare) if about_blobs else (bare, blob)

    def _named(self, text: str) -> Action | None:
        """The action of `key=value | key=value`; None where the text is something else.

        A tag alone is looked up: the original's pipelines name no more where they go on with a tag.
        """
        pairs = [_PAIR.fullmatch(part) for part in text.split(" | ")]
        params: dict[str, Param] = {}
        for pair in pairs:
            if pair is None or pair[1] in params:
                return None
            params[pair[1]] = _value(pair[1], pair[2].strip())
        if params.keys() == {"tag"}:
            return Action.of("query", tag_pattern=glob.escape(str(params["tag"])))
        for name, known in _PARAMETERS.items():
            if params.keys() <= known:
                return Action.of(name, **params)
        return None


def _check_beginning(words: list[Word], verb: str, *, removes: bool) -> None:
    """Check that the words before the verb do not negate it. Raises NotUnderstood."""
    for word in words:
        if word.among(NEGATIONS):
            raise NotUnderstood(f"{word.text} {verb}? Say what is to be done, not what is not")
        if removes and not word.among(COURTESY):
            raise NotUnderstood(f"{verb}? A command that removes something begins with its verb")


def _destroy(operands: Operands) -> Action:
    verb = operands.verb
    if operands.words("place") or operands.words("blob"):
        raise NotUnderstood(
            f"no action deletes single blobs for good: `{verb} TAG` removes a tag with all its blobs, "
            "`prune NAME from TAG` lets the cache forget one"
        )
    operands.allow("bare", "tag")
    tags = operands.names("bare", "tag")
    if operands.words("tag") and operands.names("bare"):
        raise NotUnderstood(f"{verb}: what is {join_words(operands.words('bare'))!r}? Say `{verb} tag: TAG`")
    if not tags or everything(operands.words("bare")):
        raise NotUnderstood(f"{verb} what? Name the tags: `{verb} TAG, TAG`")
    return Action.of("destroy", tags=tags)


def _without_the_store(operands: Operands) -> tuple[Operands, bool]:
    """Without `from iowarp` where another tag is named; whether it was said: the cache is gone past then."""
    places = [part for part in operands.parts if part.slot in ("place", "tag")]
    store = [
        part
        for part in places
        if part.slot == "place" and join_words(part.words).lower().removeprefix("the ") in _THE_STORE
    ]
    if not store or len(store) == len(places):
        return operands, False
    return operands.with_parts(tuple(part for part in operands.parts if part not in store)), True


def _pattern(operands: Operands) -> str:
    """The glob that stands without a marker; empty where it is everything, or nothing is named."""
    bare = operands.words("bare")
    return "" if only_fillers(bare) or everything(bare) else operands.one("pattern", "bare")


def _value(key: str, text: str) -> Param:
    if key == "force":
        return text.lower() in ("true", "yes", "1")
    if key in _LISTS and "," in text:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
