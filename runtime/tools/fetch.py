"""The fetch tool: a page of an allowed host, as text.

Consumes URLs; produces the text of pages. Waits for the host; unblocked by the deadline, which spans
redirects. Each redirect is looked at like the first URL, each address before it is connected to.
"""

import asyncio
import html.parser
import re
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from configs.tools import FetchSettings
from runtime.tools.addresses import Target, check_addresses, check_url, numeric_address
from runtime.tools.base import ToolError, harmless
from runtime.tools.typed import tool

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import ResolveResult

_TEXT: Final = re.compile(r"^(text/|application/(json|xml|javascript|x-yaml|yaml|.*\+(json|xml)))")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_CHUNK: Final = 16_384
_UNSEEN: Final = frozenset({"script", "style", "noscript", "template", "svg"})
_BLOCKS: Final = frozenset(
    {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "table", "section", "article"}
)
_BLANK: Final = re.compile(r"\n\s*\n+")
_SPACES: Final = re.compile(r"[ \t]+")
_HARD_SPACE: Final = "\xa0"
_HEADERS: Final = {"User-Agent": "agentfactory", "Accept": "text/*, application/json;q=0.9, */*;q=0.1"}


class FetchTool:
    """Gets pages. A part of the box that its tool is in."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._http: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<FetchTool {', '.join(self._settings.hosts) or 'no hosts'}>"

    async def start(self) -> None:
        """Make the client; nothing is asked yet."""
        import aiohttp

        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_resolver(self._settings), use_dns_cache=False, limit=16),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
            trust_env=False,
            max_line_size=8190,
        )

    @tool
    async def fetch(self, url: str) -> str:
        """Gets a page of the web, of those hosts that are allowed, and answers with its text.

        Args:
            url: such as https://example.org/page
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._fetch(url)
        except TimeoutError as error:
            raise ToolError(f"no answer within {self._settings.timeout_s:g} s", "timeout") from error

    async def _fetch(self, url: str) -> str:
        for _ in range(self._settings.max_redirects + 1):
            target = check_url(url, self._settings)
            address = numeric_address(target.host)
            if address is not None:  # such a host is never looked up, and so not checked there
                check_addresses(target.host, [address], self._settings)
            onward, text = await self._get(target)
            if onward is None:
                return harmless(text, self._settings.max_chars)
            url = urljoin(target.url, onward)
        raise ToolError(f"more than {self._settings.max_redirects} redirects")

    async def _get(self, target: Target) -> tuple[str | None, str]:
        """Where a redirect leads, or the text of the page. Raises ToolError."""
        import aiohttp

        if self._http is None:
            raise ToolError("the fetch tool is closed", "crashed")
        try:
            async with self._http.get(target.url, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", ""), ""
                if response.status != 200:
                    raise ToolError(
                        f"{target.host} answered {response.status} {response.reason or ''}".rstrip()
                    )
                return None, await self._read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _refusal(error)
            if refused is not None:
                raise refused from error
            raise ToolError(f"{target.host} cannot be asked: {error or type(error).__name__}") from error

    async def _read(self, response: "aiohttp.ClientResponse") -> str:
        """The page as text, as far as the limit allows."""
        kind = response.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
        if not _TEXT.match(kind):
            raise ToolError(f"the page is {kind}, not text")
        limit = self._settings.max_kb * 1024
        data = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            data += chunk[: limit - len(data)]
            if len(data) >= limit:
                break
        text = bytes(data).decode(_encoding(response), "replace")
        return page_text(text) if "html" in kind else text.strip()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None


def _resolver(settings: FetchSettings) -> "aiohttp.abc.AbstractResolver":
    """A resolver that looks at what it found before anybody connects to it."""
    import aiohttp
    from aiohttp.abc import AbstractResolver

    class Checked(AbstractResolver):
        def __init__(self) -> None:
            self._inner = aiohttp.ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> "list[ResolveResult]":
            found = await self._inner.resolve(host, port, family)
            check_addresses(host.rstrip(".").lower(), [each["host"] for each in found], settings)
            return found

        async def close(self) -> None:
            await self._inner.close()

    return Checked()


def _refusal(error: BaseException) -> ToolError | None:
    """What the resolver said, wherever the client has put it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ToolError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _encoding(response: "aiohttp.ClientResponse") -> str:
    try:
        "".encode(response.charset or "utf-8")
    except LookupError:
        return "utf-8"
    return response.charset or "utf-8"


class _Page(html.parser.HTMLParser):
    """Collects what a reader of a page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []
        self._as_is = 0
        """How many `pre` are open."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self._as_is += tag == "pre"
        if tag in _UNSEEN:
            self._hidden.append(tag)
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """Called by the parser."""
        self._as_is -= tag == "pre" and self._as_is > 0
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        if not self._hidden:
            self.parts.append(data.replace(" ", _HARD_SPACE) if self._as_is else data.replace("\n", " "))


def page_text(markup: str) -> str:
    """What a reader of an HTML page would see, a block a line.

    >>> page_text("<style>p{}</style><h1>A</h1><p>b <b>c</b></p>")
    'A\\nb c'
    """
    page = _Page()
    page.feed(markup)
    page.close()
    lines = (_SPACES.sub(" ", line).strip(" \t") for line in "".join(page.parts).splitlines())
    return _BLANK.sub("\n", "\n".join(lines)).strip("\n").replace(_HARD_SPACE, " ")
