"""The protocol between a fork server and its client."""

import os
import random

import pytest

from agentfactory.runtime.sandbox.inside.protocol import (
    BadFrame,
    FrameDecoder,
    ServerHello,
    encode,
    read_hello,
    read_input,
    write_input,
)


def test_frames_survive_any_cutting_of_the_stream() -> None:
    rng = random.Random(7)
    frames: list[ServerHello] = [
        {
            "error": f"{n}",
            "level": "",
            "namespaces": [],
            "user": "",
            "detail": "é\ud800\n" * rng.randint(0, 50),
        }
        for n in range(50)
    ]
    stream = b"".join(map(encode, frames))
    decoder, found, at = FrameDecoder(), [], 0
    while at < len(stream):
        size = rng.randint(1, 97)
        found += [read_hello(body) for body in decoder.feed(stream[at : at + size])]
        at += size
    assert found == frames


def test_a_frame_that_claims_to_be_huge_is_refused() -> None:
    with pytest.raises(BadFrame, match="4294967295 bytes"):
        list(FrameDecoder().feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 5_000_000])
def test_an_input_is_read_as_it_was_written(size: int) -> None:
    descriptor = write_input(b"\0x\n\xff" * size)
    assert read_input(descriptor) == b"\0x\n\xff" * size
    os.close(descriptor)
