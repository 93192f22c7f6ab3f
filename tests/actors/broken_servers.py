"""Grader servers that break at one point each; tests have a pool start them in place of the real one.

Each takes the control socket as standard input, as the real one does, and speaks as much of the protocol
as its name says. The last ones are real: what they break is the fork.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

from agentfactory.actors.domains.grader_process import serve_grader
from agentfactory.runtime.sandbox.inside.protocol import (
    FrameDecoder,
    ServerHello,
    Work,
    encode,
    read_work,
    receive,
)

HELLO: Final[ServerHello] = {"error": "", "level": "", "namespaces": [], "user": "", "detail": ""}


def say_nothing() -> NoReturn:
    hang()


def die_before_the_greeting() -> NoReturn:
    os._exit(1)


def greet_with_garbage() -> NoReturn:
    socket.socket(fileno=0).sendall(b"\xff" * 64)
    hang()


def greet_by_half() -> NoReturn:
    socket.socket(fileno=0).sendall(encode(HELLO)[:10])
    hang()


def die_after_the_greeting() -> NoReturn:
    greet()
    os._exit(1)


def never_answer() -> NoReturn:
    greet()
    hang()


def die_at_the_work() -> NoReturn:
    next_work(greet())
    os._exit(1)


def stop_at_the_work() -> NoReturn:
    next_work(greet())
    os.kill(os.getpid(), signal.SIGSTOP)
    hang()


def die_in_the_answer() -> NoReturn:
    control = greet()
    frame = answer_to(next_work(control), '["done"]\n')
    control.sendall(frame[: len(frame) // 2])
    os._exit(1)


def stop_in_the_answer() -> NoReturn:
    control = greet()
    frame = answer_to(next_work(control), '["done"]\n')
    control.sendall(frame[: len(frame) // 2])
    hang()


def answer_with_garbage() -> NoReturn:
    control = greet()
    next_work(control)
    control.sendall(b"\x00\x00\x00\x02no")
    hang()


def answer_another() -> NoReturn:
    control = greet()
    while True:
        work, output = next_work(control)
        control.sendall(answer_to(({**work, "id": work["id"] + 1000}, output), '["done"]\n'))


def answer_half_a_line() -> NoReturn:
    control = greet()
    while True:
        control.sendall(answer_to(next_work(control), '["do'))


def answer_nothing() -> NoReturn:
    control = greet()
    while True:
        control.sendall(answer_to(next_work(control), ""))


def die_after_the_answer() -> NoReturn:
    control = greet()
    control.sendall(answer_to(next_work(control), '["done"]\n'))
    os._exit(1)


def have_a_fork_kill_itself() -> NoReturn:
    serve_grader(lambda: lambda job: os.kill(os.getpid(), signal.SIGKILL))


def have_a_fork_stop_itself() -> NoReturn:
    serve_grader(lambda: lambda job: os.kill(os.getpid(), signal.SIGSTOP))


def have_a_fork_write_half_a_line() -> NoReturn:
    serve_grader(lambda: write_half_a_line)


def write_half_a_line(job: str) -> None:
    os.write(1, b'["do')
    os._exit(0)


WITHOUT_ANSWER: Final[tuple[Callable[[], NoReturn], ...]] = (
    say_nothing,
    die_before_the_greeting,
    greet_with_garbage,
    greet_by_half,
    die_after_the_greeting,
    never_answer,
    die_at_the_work,
    stop_at_the_work,
    die_in_the_answer,
    stop_in_the_answer,
    answer_with_garbage,
    answer_another,
    answer_half_a_line,
    answer_nothing,
    have_a_fork_kill_itself,
    have_a_fork_stop_itself,
    have_a_fork_write_half_a_line,
)


def greet() -> socket.socket:
    """Say that work can come."""
    control = socket.socket(fileno=0)
    control.recv(65536)
    control.sendall(encode(HELLO))
    return control


Asked = tuple[Work, int]
"""A piece of work, and where its output goes."""


def next_work(control: socket.socket) -> Asked:
    """Wait for the next piece of work. One that is to be killed is none. Ends with the pool."""
    decoder = FrameDecoder()
    while True:
        data, descriptors = receive(control)
        if not data:
            sys.exit(0)
        for body in decoder.feed(data):
            work = read_work(body)
            if not work["kill"]:
                return work, descriptors[1]


def answer_to(asked: Asked, output: str) -> bytes:
    """Leave the output; the frame that says that the work has ended."""
    work, descriptor = asked
    os.write(descriptor, output.encode())
    os.close(descriptor)
    return encode({"id": work["id"], "ending": "ok"})


def hang() -> NoReturn:
    while True:
        time.sleep(60)  # until it is killed
