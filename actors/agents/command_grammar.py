"""Grammar of commands: which names a command gives, and what each of them is.

    command  = {courtesy} verb {part} {courtesy}
    part     = names                            what the verb acts on: sources, blobs, patterns or tags
             | marker names                     "tag:", "blob:", "pattern:", "src:", "format:"; the bare words
                                                `tag`, `blob`, `pattern` count where a name follows at once
             | preposition names                where to, or where from
             | "force" | "skip cache" | …       of a retrieval
    names    = name {("," | "and") name}
    name     = quoted | word | scheme::path | words that end in a file's name

A name of several words stands in quotes, unless its last word, and no other, ends like a file (`My Notes.md`)
and nothing is removed by it. Words that say nothing (`the`, `please`) are dropped around names. Whatever else
is left over, a marker that is not known, or one name too many, raises NotUnderstood: it is asked back, and
no stray word becomes a name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, Self, get_args

from ...messages.data import Format
from .base import NotUnderstood
from .command_tokenizer import Word, join_words, split_list

Slot = Literal["bare", "place", "origin", "tag", "blob", "pattern", "source"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COURTESY: Final = _words(
    "please can could would will just kindly force directly try to i you we me us want need like let let's "
    "first now then and also thanks ok okay permanently"
)
"""Words that may stand before the verb of a command without a meaning."""
NEGATIONS: Final = _words("not never don't dont cannot can't won't shouldn't mustn't avoid stop")
ARTICLES: Final = _words("the a an")
_AT_THE_END: Final = _words("please now thanks too")
_ONE_BLOB: Final = _words("blob file document")
MANY_BLOBS: Final = _words("blobs files documents")
_NOUNS: Final = (
    _ONE_BLOB
    | MANY_BLOBS
    | _words("tag tags folder directory data contents content cache store pattern patterns")
)
"""Nouns that a name may be of; behind an article no name themselves."""
_FILLERS: Final = ARTICLES | _NOUNS | _words("please me us some for of with stored")
_PRONOUNS: Final = _words("it them this that these those nothing none something whatever")
"""Words that name nothing that could be removed."""
_DETERMINERS: Final = _words(
    "the my our your his her its their some any old unused other others another one ones both none nothing"
)
"""Words that are no names where they stand beside a noun."""
_EVERYTHING: Final = _words("all everything anything * every each")
_HARD: Final[dict[str, Slot]] = {
    **dict.fromkeys(("tag", "tags", "dst", "tag_pattern"), "tag"),
    **dict.fromkeys(("blob", "blobs", "blob_name", "blob_names", "file", "document", "name"), "blob"),
    **dict.fromkeys(("pattern", "patterns", "blob_pattern"), "pattern"),
    **dict.fromkeys(("src", "source", "sources", "uri"), "source"),
}
"""Markers with a colon, or `=`."""
MARKERS: Final = frozenset((*_HARD, "format"))
_SOFT: Final[dict[str, Slot]] = {
    **dict.fromkeys(_words("tag tags tagged"), "tag"),
    **dict.fromkeys(_ONE_BLOB, "blob"),
    **dict.fromkeys(_words("pattern patterns matching like"), "pattern"),
}
"""Markers without a colon: only where a name follows at once."""
_SOFT_IN_REMOVALS: Final[dict[str, Slot]] = {
    **_SOFT,
    **dict.fromkeys(MANY_BLOBS, "blob"),
}
_NAMING: Final = _words("called named")
INTO: Final = _words("as into to under in")
FROM: Final = _words("from in under within inside")
_PAST: Final = _words("force directly direct skip-cache no-cache")
_WITHOUT: Final = _words("skip no without bypass")
_FORMATS: Final = frozenset(get_args(Format))
_FILE_NAME: Final = re.compile(r"[^\s]*[\w)\]-]\.[A-Za-z0-9]{1,8}")
_NOT_IN_NAMES: Final = frozenset("*?[],")
"""Of what is removed, unless it stands in quotes."""


class CommandPart(NamedTuple):
    """A run of words that belong to one marker, preposition or the verb."""

    slot: Slot
    words: list[Word]
    said: str = ""
    """The marker or preposition."""


@dataclass(frozen=True)
class Operands:
    """Operands of a verb, sorted by kind."""

    verb: str
    """As it was said."""
    parts: tuple[CommandPart, ...]
    format: str = ""
    past_cache: bool = False
    removes: bool = False
    """True if the action takes something away: then names are read strictly."""

    def words(self, slot: Slot) -> list[Word]:
        """All words of a slot."""
        return [word for part in self.parts if part.slot == slot for word in part.words]

    def with_parts(self, parts: tuple[CommandPart, ...]) -> Self:
        """The same with these parts only."""
        return replace(self, parts=parts)

    def allow(self, *slots: Slot) -> None:
        """Raise NotUnderstood for a part that the verb has no use for."""
        for part in self.parts:
            if part.slot not in slots and part.words:
                raise NotUnderstood(f"{self.verb}: it takes no {part.said!r}")

    def path(self) -> tuple[str, str] | None:
        """TAG/BLOB, where that is all there is. A quoted or marked name is one name, slash or not."""
        words = [word for part in self.parts if not part.said.endswith(":") for word in part.words]
        telling = _telling(words, strict=False)
        if len(telling) != 1 or telling[0].quoted:
            return None
        tag, slash, blob = telling[0].text.removeprefix("mem::").partition("/")
        return (tag, blob) if slash and tag and blob else None

    def names(self, *slots: Slot) -> tuple[str, ...]:
        """The names in these slots. Raises NotUnderstood for what is no name."""
        return tuple(
            name
            for part in self.parts
            if part.slot in slots
            for group in split_list(part.words)
            if (name := self.name_in(group, marked=part.slot not in ("bare", "place")))
        )

    def one(self, what: str, *slots: Slot) -> str:
        """The only name in these slots; empty if there is none. Raises NotUnderstood for several."""
        names = self.names(*slots)
        if len(names) > 1:
            raise NotUnderstood(f"{self.verb}: one {what} at a time, found {_shown(names)}")
        return names[0] if names else ""

    def name_in(self, words: Sequence[Word], *, marked: bool = False) -> str:
        """The name in some words; empty if there is none. Raises NotUnderstood for several words."""
        telling = _telling(words, strict=self.removes)
        if not telling:
            return ""
        if len(telling) == 1:
            refused = _PRONOUNS if len(words) == 1 else _PRONOUNS | _DETERMINERS | _NOUNS
            return self._checked(telling[0], frozenset() if marked else refused)
        if not self.removes and is_file_name(telling):
            return join_words(telling)
        raise NotUnderstood(
            f"{self.verb}: {join_words(telling)!r} is several words; a name of several words stands in quotes"
        )

    def _checked(self, word: Word, refused: frozenset[str]) -> str:
        if not self.removes or word.quoted:
            return word.text
        if word.among(_EVERYTHING) or word.among(refused):
            return ""
        if _NOT_IN_NAMES.intersection(word.text) or "::" in word.text:
            raise NotUnderstood(f"{self.verb}: {word.text!r} is no name; say each name, or put it in quotes")
        return word.text


def parse_operands(words: Sequence[Word], verb: str, *, into: bool, removes: bool) -> Operands:
    """Sort the words behind a verb. Raises NotUnderstood.

    `into`: prepositions say where to, and `from` where the bytes come from.
    """
    words, format_ = _take_format(words)
    words, past = ([*words], False) if into or removes else without_past_cache(words)
    prepositions = INTO if into else FROM
    soft = _SOFT_IN_REMOVALS if removes else _SOFT
    parts = tuple(_parts(_without_courtesy(words, prepositions), prepositions, soft, origin=into))
    for part in parts:
        if not part.words and part.slot != "bare":
            raise NotUnderstood(f"{verb}: a name is missing behind {part.said!r}")
    return Operands(verb, parts, format_, past, removes)


def everything(words: Sequence[Word]) -> bool:
    """True if they say: all there is."""
    telling = [word for word in words if not word.among(_FILLERS)]
    return bool(telling) and all(word.among(_EVERYTHING) for word in telling)


def describes(words: Sequence[Word]) -> bool:
    """True if the last of them says that the others tell of blobs, rather than name one: `csv files`."""
    return len(words) > 1 and words[-1].among(MANY_BLOBS) and not any(word.quoted for word in words)


def only_fillers(words: Sequence[Word]) -> bool:
    """True if they say nothing."""
    return all(word.among(_FILLERS) or word.among(COURTESY) for word in words)


def without_past_cache(words: Sequence[Word]) -> tuple[list[Word], bool]:
    """The other words, and whether there were any that mean: not from the cache."""
    kept: list[Word] = []
    at = 0
    while at < len(words):
        length = _past_cache_at(words, at)
        if not length:
            kept.append(words[at])
        at += max(1, length)
    return kept, len(kept) < len(words)


def is_file_name(words: Sequence[Word]) -> bool:
    """True if several words are the name of one file: the last one, and no other, ends like one."""
    plain = not any(word.quoted or word.marker or word.ends for word in words[:-1])
    ours = any(word.among(INTO | FROM | _EVERYTHING) for word in words)
    endings = [bool(_FILE_NAME.fullmatch(word.text)) for word in words]
    return plain and not ours and endings[-1] and not any(endings[:-1])


def _parts(
    words: Sequence[Word], prepositions: frozenset[str], soft: Mapping[str, Slot], *, origin: bool
) -> Iterator[CommandPart]:
    part = CommandPart("bare", [])
    for at, word in enumerate(words):
        slot = _slot_of(words, at, prepositions, soft, origin=origin)
        if slot is None:
            if not (word.among(_NAMING) and _name_follows(words, at, prepositions)):
                part.words.append(word)
            continue
        while slot != "place" and part.words and part.words[-1].among(ARTICLES):
            part.words.pop()  # "from the tag docs"
        if part.words or (slot == "place" and part.slot == "place"):
            yield part
        part = CommandPart(slot, [], word.text)
    yield part


def _slot_of(
    words: Sequence[Word], at: int, prepositions: frozenset[str], soft: Mapping[str, Slot], *, origin: bool
) -> Slot | None:
    """The slot that begins with this word; None for a word of a name."""
    word = words[at]
    if word.marker:
        return _HARD[word.marker]
    if word.among(prepositions):
        return "place"
    if origin and word.among(("from",)):
        return "origin"
    slot = soft.get(word.key)
    return slot if slot is not None and _name_follows(words, at, prepositions) else None


def _name_follows(words: Sequence[Word], at: int, prepositions: frozenset[str]) -> bool:
    """True if the next word is a name rather than a word of the language."""
    if at + 1 >= len(words) or words[at].ends:
        return False
    follows = words[at + 1]
    ours = follows.among(prepositions) or follows.among(("and", "from")) or follows.key in _SOFT
    return not (follows.marker or ours)


def check_markers(words: Sequence[Word]) -> None:
    """Raise NotUnderstood for a marker that is not known."""
    for word in words:
        if word.marker and word.marker not in MARKERS:
            raise NotUnderstood(
                f"unknown marker {word.text!r}; known are tag:, blob:, pattern:, src: and format:, and a "
                "name with a colon stands in quotes"
            )


def _take_format(words: Sequence[Word]) -> tuple[list[Word], str]:
    """The words without `format X` or `in X format`, and X. Raises NotUnderstood for an unknown X."""
    for at, word in enumerate(words):
        marked = word.marker == "format"
        if not marked and not word.among(("format",)):
            continue
        if at + 1 < len(words) and words[at + 1].among(_FORMATS):
            begin, end, name = at, at + 2, words[at + 1].key
        elif at and not marked and words[at - 1].among(_FORMATS):
            begin, end, name = at - 1, at + 1, words[at - 1].key
        elif marked:
            raise NotUnderstood(f"format: expected one of {', '.join(sorted(_FORMATS))}")
        else:
            continue
        if begin and words[begin - 1].among(("in", "with", "as")):
            begin -= 1
        rest = [*words[:begin], *words[end:]]
        if any(other.marker == "format" for other in rest):
            raise NotUnderstood("format: it is said twice")
        return rest, name
    return [*words], ""


def _past_cache_at(words: Sequence[Word], at: int) -> int:
    """Number of words from here on that mean it."""
    if words[at].among(_PAST):
        return 1
    if words[at].among(_WITHOUT):
        the = at + 1 < len(words) and words[at + 1].among(("the",))
        length = 3 if the else 2
        if at + length <= len(words) and words[at + length - 1].among(("cache",)):
            return length
    return 0


def _without_courtesy(words: Sequence[Word], prepositions: frozenset[str]) -> list[Word]:
    """Without polite words at the end, where something else is left."""
    end = len(words)
    while end > 1 and words[end - 1].among(_AT_THE_END):
        before = words[end - 2]
        if before.marker or before.among(prepositions) or before.key in _SOFT:
            break  # "from now": that is the name
        end -= 1
    return [*words[:end]]


def _telling(words: Sequence[Word], *, strict: bool) -> list[Word]:
    """The words without those that say nothing. One word that stands alone is a name, whatever it is."""
    if len(words) == 1:
        return [*words]
    if strict:
        begin = 1 if words[0].among(("the",)) else 0
        end = len(words) - 1 if words[-1].among(("tag",)) else len(words)
        return [*words[begin:end]]
    telling = [word for word in words if not word.among(_FILLERS)]
    if len(telling) > 1:
        telling = [word for word in telling if not word.among(_EVERYTHING)] or telling[:1]
    return telling


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
