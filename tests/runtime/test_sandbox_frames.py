"""The protocol between a fork server and its client."""

import random

import pytest

from runtime.sandbox.frames import Answer, BadFrame, Decoder, encode, read_answer


def test_frames_survive_any_cutting_of_the_stream() -> None:
    rng = random.Random(7)
    frames: list[Answer] = [
        {"id": n, "ending": "ok", "output": "é\ud800\n" * rng.randint(0, 50)} for n in range(50)
    ]
    stream = b"".join(map(encode, frames))
    decoder, found, at = Decoder(), [], 0
    while at < len(stream):
        size = rng.randint(1, 97)
        found += [read_answer(body) for body in decoder.feed(stream[at : at + size])]
        at += size
    assert found == frames


def test_a_frame_that_claims_to_be_huge_is_refused() -> None:
    with pytest.raises(BadFrame, match="4294967295 bytes"):
        list(Decoder().feed(b"\xff\xff\xff\xff"))
