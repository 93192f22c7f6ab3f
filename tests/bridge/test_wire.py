"""Frames of the binary dialect."""

import pytest

from agentfactory.bridge import wire
from agentfactory.bridge.errors import BadName, BridgeError, NoSuchBlob, StoreError, StoreFull
from agentfactory.bridge.frames import (
    MAGIC,
    SEPARATE_FRAME_BYTES,
    BadFrames,
    MessageKind,
    decode_json,
    encode_json,
    pack_message,
    unpack_messages,
)
from agentfactory.configs.errors import BadInput, CannotWrite
from agentfactory.messages.data import BlobMeta


@pytest.mark.parametrize("kind", list(MessageKind))
def test_a_message_comes_back_as_it_went(kind: MessageKind) -> None:
    words = wire.PutRequest(tag="документы", name="a/b", put_id="p", meta=BlobMeta(shape=(2, 3)), size=7)
    [(head, body)] = unpack_messages(pack_message(kind, (1 << 64) - 1, words, b"bytes"))
    assert (head.kind, head.correlation, body) == (kind, (1 << 64) - 1, b"bytes")
    assert decode_json(wire.PutRequest, head.words) == words


@pytest.mark.parametrize(
    ("size", "frames"), [(0, 1), (SEPARATE_FRAME_BYTES - 1, 1), (SEPARATE_FRAME_BYTES, 2)]
)
def test_a_large_body_has_a_frame_of_its_own(size: int, frames: int) -> None:
    packed = pack_message(MessageKind.PUT, 1, wire.StatRequest(tag="a", name="b"), b"x" * size)
    assert len(packed) == frames
    [(_, body)] = unpack_messages(packed)
    assert body == b"x" * size


def test_messages_that_travel_together_come_apart_in_their_order() -> None:
    large = b"x" * SEPARATE_FRAME_BYTES
    first, second, third = (
        pack_message(MessageKind.PING, n, body=b) for n, b in ((1, b""), (2, b"two"), (3, large))
    )
    together = [first[0] + second[0] + third[0], third[1], first[0]]
    came = [(head.correlation, body) for head, body in unpack_messages(together)]
    assert came == [(1, b""), (2, b"two"), (3, large), (1, b"")]


def test_no_more_messages_come_together_than_can_be_handled_in_one_turn() -> None:
    (one,) = pack_message(MessageKind.PING, 1)
    with pytest.raises(BadFrames, match="more than 256 messages"):
        list(unpack_messages([one * 257]))


HEADER = pack_message(MessageKind.PING, 5)[0]


@pytest.mark.parametrize(
    ("frames", "words", "correlation"),
    [
        ([b""], "a header has 28 bytes, there are 0", 0),
        ([b"x" * 28], "magic", 0x7878787878787878),
        ([MAGIC + b"\x09" + b"\0" * 23], "version 9 of the dialect", 0),
        ([MAGIC + b"\x01\xfe" + b"\0" * 22], "unknown kind of message 254", 0),
        ([HEADER + b"more"], "a header has 28 bytes, there are 4", 0),
        (
            [pack_message(MessageKind.STAT, 5, wire.StatRequest(tag="a", name="b"))[0][:-1]],
            "bytes of words, there are",
            5,
        ),
        ([pack_message(MessageKind.PUT, 5, body=b"abc")[0][:-1]], "a body of 3 bytes, there are 2", 5),
        (
            [pack_message(MessageKind.PUT, 5, body=b"x" * SEPARATE_FRAME_BYTES)[0]],
            "a frame for the body, there is none",
            5,
        ),
        ([pack_message(MessageKind.PUT, 5, body=b"x" * SEPARATE_FRAME_BYTES)[0], b"xx"], "there are 2", 5),
    ],
)
def test_what_is_no_message_is_refused_by_what_is_wrong(
    frames: list[bytes], words: str, correlation: int
) -> None:
    with pytest.raises(BadFrames, match=words) as refused:
        list(unpack_messages(frames))
    assert refused.value.correlation == correlation


def test_what_came_before_a_damaged_message_is_still_read() -> None:
    reading = unpack_messages([HEADER + b"x" * 28])
    assert next(reading)[0].correlation == 5
    with pytest.raises(BadFrames, match="magic"):
        next(reading)


@pytest.mark.parametrize(
    ("words", "field"),
    [(b"", "words"), (b'{"tag": "a"}', "name"), (b'{"tag": 1, "name": "a"}', "tag"), (b"\xff", "words")],
)
def test_words_that_do_not_fit_are_refused_by_their_field(words: bytes, field: str) -> None:
    with pytest.raises(BadFrames, match=f"NameWords: {field}"):
        decode_json(wire.StatRequest, words)


def test_text_that_has_no_utf8_is_a_bad_name() -> None:
    with pytest.raises(BadName, match="UTF-8"):
        encode_json(wire.StatRequest(tag="\udcff", name="a"))


@pytest.mark.parametrize("error", [NoSuchBlob("a"), StoreFull("b"), BadInput("c"), wire.Busy("d")])
def test_errors_keep_their_class(error: Exception) -> None:
    back = wire.error_from(wire.error_reply(error).model_dump_json().encode())
    assert (type(back), str(back)) == (type(error), str(error))


def test_an_error_of_an_unknown_class_becomes_the_nearest_known() -> None:
    class Odd(StoreError):
        pass

    assert wire.error_reply(Odd("x")) == wire.ErrorReply(error="StoreError", message="x")
    assert wire.error_reply(CannotWrite("x")).error == "BridgeError"


def test_what_an_unforeseen_error_says_stays_in_the_bridge() -> None:
    said = wire.error_reply(KeyError("a secret"))
    assert "secret" not in said.message
    assert type(wire.error_from(said.model_dump_json().encode())) is BridgeError


def test_an_error_that_cannot_be_read_is_an_error_too() -> None:
    assert isinstance(wire.error_from(b"?"), BadFrames)
