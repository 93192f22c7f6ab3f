"""What was seen, as whoever reads texts sees it: a model, a log."""

from typing import Final

from messages.data import Listing, Matches, Observation, Retrieved

NOTHING: Final = "(nothing)"
"""The observation of an empty blob, or of a listing without blobs."""


def show(seen: Observation, max_chars: int) -> str:
    """What was seen as a model reads it, at most `max_chars` long.

    What looks like a chat template's markup is broken up, so that a text cannot end the turn it is in.
    """
    match seen.data:
        case Retrieved(content=bytes() as content):
            text = _as_text(content)
        case Listing(blobs=blobs):
            text = ", ".join(f"{blob.tag}/{blob.name}" for blob in blobs)
        case Matches(matches=matches):
            text = ", ".join(f"{blob.tag}/{blob.blob_name}" for blob in matches)
        case _:
            text = seen.text
    text = text.replace("<|", "< |")
    return (text if len(text) <= max_chars else f"{text[: max_chars - 1]}…") or NOTHING


def _as_text(content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        return f"({len(content):,} bytes that are no text)"
