"""Decoding a page and taking its text out of HTML: the work of the fetch tool's forked processes.

The parser is Lexbor, through selectolax: it reads what browsers read (WHATWG's algorithm), some 100 MB/s of
ordinary markup, and has wheels without dependencies for every platform; lxml stops at 256 nested elements and
drops the rest of such a page. That algorithm takes quadratic time where elements nest without end (0.26 MB of
`<div>`: 4 s), whoever follows it, so that no page is parsed outside of a process that can be killed.
"""

import base64
import codecs
import json
import os
import re
from typing import Final, NoReturn

from selectolax.lexbor import LexborHTMLParser, LexborNode

from ...sandbox.inside.fork_server import Job, serve
from ...sandbox.inside.protocol import Ending, Setup

_UNSEEN: Final = frozenset({"script", "style", "noscript", "template", "svg"})
_BLOCKS: Final = frozenset(
    {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "table", "section", "article"}
)
_BLANK: Final = re.compile(r"\n(?:\s*\n)+")
_SPACES: Final = re.compile(r"[ \t]+")
_HARD_SPACE: Final = "\xa0"
_PYTHONS_OWN: Final = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"})
"""Codecs that are no charsets of pages; some take quadratic time."""


def page_text(markup: str) -> str:
    """What a reader of an HTML page would see, a block a line.

    >>> page_text("<style>p{}</style><h1>A</h1><p>b <b>c</b></p>")
    'A\\nb c'
    """
    root = LexborHTMLParser(markup).root
    parts = _parts(root) if root is not None else []
    lines = (_SPACES.sub(" ", line).strip(" \t") for line in "".join(parts).splitlines())
    return _BLANK.sub("\n", "\n".join(lines)).strip("\n").replace(_HARD_SPACE, " ")


def _parts(root: LexborNode) -> list[str]:
    """The texts of a tree, with line breaks around blocks. Without recursion: trees may be deep."""
    parts: list[str] = []
    preformatted = 0
    waiting: list[LexborNode | str] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):  # the end of an element
            preformatted -= node == "pre"
            parts.append("\n")
        elif node.is_text_node:
            text = node.text_content or ""
            parts.append(text.replace(" ", _HARD_SPACE) if preformatted else text.replace("\n", " "))
        elif node.is_element_node and node.tag not in _UNSEEN:
            if node.tag in _BLOCKS:
                preformatted += node.tag == "pre"
                parts.append("\n")
                waiting.append(node.tag or "")
            waiting.extend(_children_reversed(node))
    return parts


def _children_reversed(node: LexborNode) -> list[LexborNode]:
    children: list[LexborNode] = []
    child = node.last_child
    while child is not None:
        children.append(child)
        child = child.prev
    return children


def decode(data: bytes, charset: str) -> str:
    """The bytes as text, in UTF-8 where the charset is none that is known.

    >>> decode(b"caf\\xe9", "latin-1"), decode(b"fine", "nonsense"), decode(b"fine", "zip")
    ('café', 'fine', 'fine')
    """
    try:
        name = codecs.lookup(charset).name
        return data.decode("utf-8" if name in _PYTHONS_OWN else name, "replace")
    except (LookupError, ValueError):  # also for a codec between bytes and bytes, such as zip
        return data.decode("utf-8", "replace")


def read_page(text: str) -> Ending:
    """One job in a child: a JSON list [base64, charset, whether HTML, characters wanted] in, the text out."""
    encoded, charset, is_html, wanted = json.loads(text)
    try:
        page = decode(base64.b64decode(encoded), charset)
        shown = page_text(page) if is_html else page.strip()
    except MemoryError:
        return "memory"
    _write(shown[:wanted].encode("utf-8", "replace"))
    return "ok"


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def prepare(_: Setup) -> Job:
    """Read a page of our own, so that what loads late is there before the first fork."""
    page_text("<p>a</p>")
    return read_page


def main() -> NoReturn:
    """Be the fetch tool's server."""
    serve(prepare)
