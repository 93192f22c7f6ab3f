"""Frames of the binary dialect."""

import pytest

from bridge import wire
from bridge.errors import BadName, BridgeError, NoSuchBlob, StoreError, StoreFull
from bridge.wire import BadFrames, Kind
from configs.errors import BadInput, CannotWrite
from messages.blobs import BlobMeta


@pytest.mark.parametrize("kind", list(Kind))
def test_a_header_comes_back_as_it_went(kind: Kind) -> None:
    words = wire.PutWords(tag="документы", name="a/b", put_id="p", meta=BlobMeta(shape=(2, 3)), size=7)
    head = wire.unpack(wire.pack(kind, (1 << 64) - 1, words, 5))
    assert (head.kind, head.correlation, head.body_size) == (kind, (1 << 64) - 1, 5)
    assert wire.read_words(wire.PutWords, head.words) == words


def test_a_header_without_a_body_says_so() -> None:
    head = wire.unpack(wire.pack(Kind.GET, 1))
    assert wire.body_of(head, [b"header", b"of the next"], 0) == b""
    head = wire.unpack(wire.pack(Kind.GET, 1, body=0))
    assert head.flags & wire.HAS_BODY
    assert wire.body_of(head, [b"header", b""], 0) == b""


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", "a header has 28 bytes, this frame 0"),
        (b"x" * 28, "magic"),
        (wire.MAGIC + b"\x09" + b"\0" * 23, "version 9 of the dialect"),
        (wire.MAGIC + b"\x01\xfe" + b"\0" * 22, "unknown kind of message 254"),
        (wire.pack(Kind.PING, 1) + b"more", "0 bytes of words, there are 4"),
    ],
)
def test_what_is_no_header_is_refused_by_what_is_wrong(frame: bytes, words: str) -> None:
    with pytest.raises(BadFrames, match=words):
        wire.unpack(frame)


def test_a_body_must_be_there_and_as_large_as_promised() -> None:
    head = wire.unpack(wire.pack(Kind.PUT, 1, body=3))
    with pytest.raises(BadFrames, match="there is none"):
        wire.body_of(head, [b"header"], 0)
    with pytest.raises(BadFrames, match="a body of 3 bytes, there are 2"):
        wire.body_of(head, [b"header", b"xx"], 0)


@pytest.mark.parametrize(
    ("words", "field"),
    [(b"", "words"), (b'{"tag": "a"}', "name"), (b'{"tag": 1, "name": "a"}', "tag"), (b"\xff", "words")],
)
def test_words_that_do_not_fit_are_refused_by_their_field(words: bytes, field: str) -> None:
    with pytest.raises(BadFrames, match=f"NameWords: {field}"):
        wire.read_words(wire.NameWords, words)


def test_text_that_has_no_utf8_is_a_bad_name() -> None:
    with pytest.raises(BadName, match="UTF-8"):
        wire.text(wire.NameWords(tag="\udcff", name="a"))


@pytest.mark.parametrize("error", [NoSuchBlob("a"), StoreFull("b"), BadInput("c"), wire.Busy("d")])
def test_errors_keep_their_class(error: Exception) -> None:
    back = wire.error_of(wire.failed(error).model_dump_json().encode())
    assert (type(back), str(back)) == (type(error), str(error))


def test_an_error_of_an_unknown_class_becomes_the_nearest_known() -> None:
    class Odd(StoreError):
        pass

    assert wire.failed(Odd("x")) == wire.Failed(error="StoreError", message="x")
    assert wire.failed(CannotWrite("x")).error == "BridgeError"


def test_what_an_unforeseen_error_says_stays_in_the_bridge() -> None:
    said = wire.failed(KeyError("a secret"))
    assert "secret" not in said.message
    assert type(wire.error_of(said.model_dump_json().encode())) is BridgeError


def test_an_error_that_cannot_be_read_is_an_error_too() -> None:
    assert isinstance(wire.error_of(b"?"), BadFrames)
