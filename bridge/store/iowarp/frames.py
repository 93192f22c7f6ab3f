"""What the bridge and the process that holds IOWarp's client say to each other.

A frame is two lengths, a JSON head and raw bytes. A request's head is a word and its arguments, an
answer's is `ok` and the results, or `refused` and why. Requests are answered in the order they came in.
This module is imported by the client process: it needs nothing but the standard library.
"""

import json
import socket
import struct
from typing import Final

_LENGTHS: Final = struct.Struct(">II")

PUT: Final = "put"
"""[tag, name, searchable] with the bytes -> []"""
GET: Final = "get"
"""[tag, name, size] -> [] with the bytes, or with zeros if there is no such blob"""
DELETE: Final = "delete"
"""[tag, name, searchable] -> []"""
FIND: Final = "find"
"""[tag pattern, name pattern], regular expressions -> [[tag, name], …]"""
SEARCH: Final = "search"
"""[tag pattern, name pattern, words, limit] -> [[name, score], …], the best first"""

Head = list[object]


def send(link: socket.socket, head: Head, data: bytes | memoryview = b"") -> None:
    """Send one frame."""
    packed = json.dumps(head).encode()
    start = _LENGTHS.pack(len(packed), len(data)) + packed
    if len(data) < 1 << 16:
        link.sendall(start + data)
    else:
        link.sendall(start)
        link.sendall(data)


def receive(link: socket.socket) -> tuple[Head, bytes]:
    """Receive one frame. Raises EOFError at the end, OSError."""
    head_size, data_size = _LENGTHS.unpack(_exactly(link, _LENGTHS.size))
    head: Head = json.loads(_exactly(link, head_size))
    return head, _exactly(link, data_size)


def _exactly(link: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = link.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return bytes(buffer)
