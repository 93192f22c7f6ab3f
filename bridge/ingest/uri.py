"""URI syntax: `scheme::rest`, and for named text `string:name::text`."""

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import URIResolveError

SHOWN_CHARACTERS = 120
"""How much of a URI an error quotes: `string::` may hold a whole document."""


class Uri(NamedTuple):
    """One URI, taken apart."""

    text: str
    scheme: str
    name: str
    """The name given to the text of `string:name::text`; empty for any other."""
    rest: str

    def refuse(self, complaint: str) -> URIResolveError:
        """The error that says what is wrong with it."""
        return URIResolveError(f"{printable_uri(self.text)} {complaint}")


def printable_uri(text: str) -> str:
    """A URI as errors quote it: printable, and not too long."""
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return repr(cut) if is_unicode(cut) else ascii(cut)


def is_unicode(text: str) -> bool:
    """Return whether it is UTF-8; file names that are not come as text with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_uri(text: str, schemes: Sequence[str]) -> Uri:
    """Take a URI apart. Raises URIResolveError if its scheme is none of `schemes`."""
    if not is_unicode(text):
        raise URIResolveError(f"{printable_uri(text)} is not UTF-8; rename the file that it names")
    known = ", ".join(f"{scheme}::" for scheme in schemes)
    head, separator, rest = text.partition("::")
    if not separator:
        raise URIResolveError(f"{printable_uri(text)} has no scheme: a URI begins with one of {known}")
    scheme, colon, name = head.partition(":")
    if scheme not in schemes or (colon and (scheme != "string" or not name)):
        raise URIResolveError(
            f"{printable_uri(text)} begins with {printable_uri(head + '::')}; expected one of {known}"
        )
    if not rest and scheme != "string":
        raise URIResolveError(f"{printable_uri(text)} names nothing: expected something after {scheme}::")
    return Uri(text, scheme, name, rest)
