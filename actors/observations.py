"""Rendering of observations as text, for a model or a log."""

from typing import Final

from ..messages.data import ListResult, Observation, QueryResult, Retrieved
from ..runtime.tools.base import sanitize_output

NOTHING: Final = "(nothing)"
"""The observation of an empty blob, or of a listing without blobs."""


def render(seen: Observation, max_chars: int) -> str:
    """Render an observation as a model may read it, at most `max_chars` long."""
    match seen.data:
        case Retrieved(content=bytes() as content):
            text = _as_text(content)
        case ListResult(blobs=blobs):
            text = ", ".join(f"{blob.tag}/{blob.name}" for blob in blobs)
        case QueryResult(matches=matches):
            text = ", ".join(f"{blob.tag}/{blob.blob_name}" for blob in matches)
        case _:
            text = seen.text
    return sanitize_output(text, max_chars) or NOTHING


def _as_text(content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        return f"({len(content):,} bytes that are no text)"
