"""Where the files lie that were stored as Arrow files: byte for byte, under a hidden tag beside theirs.

`docs/x.csv` is an Arrow file; the CSV is `.original/docs/x.csv`, and the SHA-256 of it stands in the Arrow
file's meta data. It costs the store as much again as the file has, and the cache nothing.
"""

from typing import Final

ORIGINAL_PREFIX: Final = ".original/"


def original_tag(tag: str) -> str:
    """Under which tag the originals of a tag lie."""
    return ORIGINAL_PREFIX + tag
