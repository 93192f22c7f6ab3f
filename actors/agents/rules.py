"""The language of commands: from a sentence to an action, without any model.

    ingest|load SOURCE[, SOURCE…] [as|into|to TAG] [format FORMAT]
    find|query|search [BLOBS in] TAGS          globs; `all` for everything
    list [BLOBS in] TAGS                       the same, asked of the store
    get|retrieve BLOB from TAG                 or TAG/BLOB; `force`, `skip cache`, `no cache`, `directly`
    prune BLOB[, BLOB…] from TAG               or TAG/BLOB
    delete|destroy TAG[, TAG…]

The first verb counts, whatever stands before it; without one it is a query. `key=value | key=value`, as
pipelines write, is taken as it stands. Names may hold dots, dashes and blanks; one that is a word of the
language (or ends with punctuation) stands in quotes.

Invariant: the same text gives the same action, whatever is stored and whoever asks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from actors.agents.base import Decision, NotUnderstood
from actors.agents.words import MAX_CHARACTERS, Word, in_groups, joined, words_of
from messages.data import Action, Format, Param

VERBS: Final[Mapping[str, str]] = {
    "ingest": "assimilate",
    "load": "assimilate",
    "assimilate": "assimilate",
    "find": "query",
    "query": "query",
    "search": "query",
    "get": "retrieve",
    "retrieve": "retrieve",
    "prune": "prune",
    "delete": "destroy",
    "destroy": "destroy",
    "list": "list_blobs",
    "list_blobs": "list_blobs",
}
_ONE_BLOB: Final = frozenset(("blob", "blob:", "file", "file:", "document"))
_FILLERS: Final = _ONE_BLOB | {
    *("the", "a", "an", "please", "me", "us", "some", "for", "of", "called", "named", "with"),
    *("tag", "tags", "tag:", "tags:", "blobs", "files", "folder", "directory"),
    *("data", "documents", "contents", "content", "cache", "store"),
}
"""Words that say nothing beside a name."""
_EVERYTHING: Final = frozenset(("all", "everything", "anything", "*"))
_INTO: Final = ("as", "into", "to", "under", "in")
_FROM: Final = ("from", "in", "under", "within", "inside")
_PAST: Final = frozenset(("force", "directly", "skip-cache", "no-cache"))
_WITHOUT: Final = frozenset(("skip", "no", "without", "bypass"))
_FORMATS: Final[tuple[str, ...]] = get_args(Format)
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "assimilate": frozenset(("src", "dst", "format")),
    "retrieve": frozenset(("tag", "blob_name", "force")),
    "prune": frozenset(("tag", "blob_names")),
    "destroy": frozenset(("tags",)),
    "query": frozenset(("tag_pattern", "blob_pattern")),
}
"""In the order in which they are recognized by their keys."""
_LISTS: Final = ("src", "blob_names", "tags")
_PAIR: Final = re.compile(r"\s*([a-z_]+)=(.*)", re.DOTALL)


class _Verb(NamedTuple):
    """Where the verb of a command stands, and the action that it means."""

    begin: int
    end: int
    name: str


@dataclass(frozen=True)
class Rules:
    """What a command leaves open, and the verbs that it may use."""

    default_tag: str = "default"
    """Where a blob is put, or looked for, that is named without a tag."""
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
        named = _named(text)
        if named is not None:
            return Decision(f"named parameters of {named.name}", named)
        words = words_of(text)
        verb = self._verb(words)
        if verb is None:
            why = "no verb of the language: query"
            return Decision(why, self._search("query", _split(words, _FROM)[1]))
        said = joined(words[verb.begin : verb.end]).lower()
        return Decision(f"{said!r} means {verb.name}", self._action(verb, words))

    def _verb(self, words: list[Word]) -> _Verb | None:
        """The first of our own verbs, else the first of the language's."""
        for said, name in self.own:
            phrase = said.lower().split()
            for at in range(len(words) - len(phrase) + 1):
                found = words[at : at + len(phrase)]
                if all(word.among((part,)) for word, part in zip(found, phrase, strict=True)):
                    return _Verb(at, at + len(phrase), name)
        for at, word in enumerate(words):
            if word.among(VERBS):
                return _Verb(at, at + 1, VERBS[word.key])
        return None

    def _action(self, verb: _Verb, words: list[Word]) -> Action:
        rest = words[verb.end :]
        match verb.name:
            case "assimilate":
                return self._assimilate(rest)
            case "retrieve":
                return self._retrieve(words[: verb.begin], rest)
            case "prune":
                return self._prune(rest)
            case "destroy":
                return _destroy(rest)
        return self._search(verb.name, rest)

    def _assimilate(self, words: list[Word]) -> Action:
        words, format_ = _format(words)
        before, after = _split(words, _INTO)
        sources = tuple(_source(group) for group in _sources(before))
        if not sources:
            raise NotUnderstood("load what? Say `load file::PATH as TAG`")
        params: dict[str, Param] = {"src": sources if len(sources) > 1 else sources[0]}
        params["dst"] = _name(after) or self.default_tag
        if chosen := format_ or self.default_format:
            params["format"] = chosen
        return Action.of("assimilate", **params)

    def _retrieve(self, before: list[Word], words: list[Word]) -> Action:
        _, forced = _without_past_cache(before)
        words, past = _without_past_cache(words)
        tag, names = self._placed(words, "get")
        force: dict[str, Param] = {"force": True} if forced or past else {}
        return Action.of("retrieve", tag=tag, blob_name=_name(names), **force)

    def _prune(self, words: list[Word]) -> Action:
        tag, named = self._placed(words, "prune")
        if _all(named):
            raise NotUnderstood("prune which blobs? Say `prune NAME, NAME from TAG`")
        names = tuple(filter(None, map(_name, in_groups(named))))
        return Action.of("prune", tag=tag, blob_names=names)

    def _search(self, name: str, words: list[Word]) -> Action:
        blobs, tags = _split(words, _FROM)
        if not tags:
            blobs, tags = _parts_of_pattern(blobs)
        params: dict[str, Param] = {"tag_pattern": _pattern(tags) or self.default_pattern}
        if (pattern := _pattern(blobs)) and pattern != "*":
            params["blob_pattern"] = pattern
        return Action.of(name, **params)

    def _placed(self, words: list[Word], verb: str) -> tuple[str, list[Word]]:
        """A tag, and the words that name what is under it. Raises NotUnderstood."""
        named, after = _split(words, _FROM)
        tag = _name(after)
        if not after and (path := _path(named)):
            tag, named = path[0], [Word(path[1])]
        if not _name(named):
            raise NotUnderstood(f"{verb} what? Say `{verb} NAME from TAG`")
        return tag or self.default_tag, named


def _destroy(words: list[Word]) -> Action:
    if _split(words, _FROM)[1]:
        raise NotUnderstood(
            "no action deletes single blobs for good: `destroy TAG` removes a tag with all its blobs, "
            "`prune NAME from TAG` lets the cache forget one"
        )
    tags = tuple(filter(None, map(_name, in_groups(words))))
    if not tags or _all(words):
        raise NotUnderstood("destroy what? Name the tags: `destroy TAG, TAG`")
    return Action.of("destroy", tags=tags)


def _named(text: str) -> Action | None:
    """The action of `key=value | key=value`; None where the text is something else."""
    pairs = [_PAIR.fullmatch(part) for part in text.split(" | ")]
    params: dict[str, Param] = {}
    for pair in pairs:
        if pair is None or pair[1] in params:
            return None
        params[pair[1]] = _value(pair[1], pair[2].strip())
    for name, known in _PARAMETERS.items():
        if params.keys() <= known:
            return Action.of(name, **params)
    return None


def _value(key: str, text: str) -> Param:
    if key == "force":
        return text.lower() in ("true", "yes", "1")
    if key in _LISTS and "," in text:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _split(words: list[Word], at: Sequence[str]) -> tuple[list[Word], list[Word]]:
    """What stands before and behind the last of these words that something follows."""
    for index in range(len(words) - 2, -1, -1):
        if words[index].among(at):
            return words[:index], words[index + 1 :]
    return words, []


def _name(words: list[Word]) -> str:
    """The name in some words; empty if there is none. A filler that stands alone is a name."""
    telling = [word for word in words if not word.among(_FILLERS)]
    telling = telling or list(words[-1:])
    name = joined(telling)
    return name if not telling or telling[0].quoted else name.removeprefix("tag:")


def _all(words: list[Word]) -> bool:
    telling = [word for word in words if not word.among(_FILLERS)]
    return bool(telling) and all(word.among(_EVERYTHING) for word in telling)


def _pattern(words: list[Word]) -> str:
    """A glob; empty where nothing is named."""
    if _all(words):
        return "*"
    return _name([word for word in words if not word.among(_FILLERS)])


def _parts_of_pattern(words: list[Word]) -> tuple[list[Word], list[Word]]:
    """Words for blobs, and words for tags, where no preposition parts them."""
    if path := _path(words):
        return [Word(path[1])], [Word(path[0])]
    about_blobs = any(word.among(_ONE_BLOB) for word in words) or _pattern(words).startswith("*.")
    return (words, []) if about_blobs else ([], words)


def _path(words: list[Word]) -> tuple[str, str] | None:
    """TAG/BLOB, where that is all there is. A quoted name is one name, slash or not."""
    telling = [word for word in words if not word.among(_FILLERS)]
    if len(telling) != 1 or telling[0].quoted:
        return None
    tag, slash, blob = telling[0].text.removeprefix("mem::").partition("/")
    return (tag, blob) if slash and tag and blob else None


def _without_past_cache(words: list[Word]) -> tuple[list[Word], bool]:
    """The other words, and whether there were any that mean: not from the cache."""
    kept: list[Word] = []
    at = 0
    while at < len(words):
        length = _past_cache_at(words, at)
        if not length:
            kept.append(words[at])
        at += max(1, length)
    return kept, len(kept) < len(words)


def _past_cache_at(words: list[Word], at: int) -> int:
    """How many words from here on mean that."""
    if words[at].among(_PAST):
        return 1
    if words[at].among(_WITHOUT):
        the = at + 1 < len(words) and words[at + 1].among(("the",))
        length = 3 if the else 2
        if at + length <= len(words) and words[at + length - 1].among(("cache",)):
            return length
    return 0


def _format(words: list[Word]) -> tuple[list[Word], str]:
    """The words before `format X` at the end, and X."""
    if len(words) >= 2 and words[-2].among(("format",)) and words[-1].among(_FORMATS):
        rest = words[:-2]
        return rest[:-1] if rest and rest[-1].among(("in", "with")) else rest, words[-1].text.lower()
    return words, ""


def _sources(words: list[Word]) -> list[list[Word]]:
    """The words of each source: parted by commas, by `and`, and by every word that has a scheme."""
    found: list[list[Word]] = []
    for group in in_groups(words):
        started = False
        for word in group:
            if not started or "::" in word.text or word.quoted:
                found.append([])
            started = True
            found[-1].append(word)
    return [group for group in found if _name(group)]


def _source(words: list[Word]) -> str:
    """A URI. A path without a scheme is a file if it has a suffix, else a folder."""
    name = _name(words)
    if "::" in name:
        return name
    last = name.rstrip("/").rpartition("/")[2]
    return f"file::{name}" if "." in last.strip(".") and not name.endswith("/") else f"folder::{name}"
