"""The fetch tool: a page of an allowed host, as text.

Consumes URLs; produces the text of pages. Waits for the host; unblocked by the deadline, which spans
redirects. Each redirect is looked at like the first URL, each address before it is connected to.

Invariant: the bytes of a page are looked at in processes that can be killed, never in the event loop.
"""

import asyncio
import base64
import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urljoin

from pydantic import JsonValue

from ....configs.tools import FetchSettings
from ..base import Tool, ToolError, sanitize_output
from ..definition import SharedTool, ToolHost
from ..function_tool import tool
from ..jobs.runner import ForkedJobRunner
from .url_policy import FetchTarget, check_addresses, check_url, numeric_address

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import ResolveResult

_TEXT: Final = re.compile(r"^(text/|application/(json|xml|javascript|x-yaml|yaml|.*\+(json|xml)))")
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_CHUNK: Final = 16_384
_NOTHING: Final = "(the page has no text)"
_MODULE: Final = "agentfactory.runtime.tools.jobs.page_text"
_PARALLEL: Final = 2
"""Pages that are read at the same time."""
_UTF8_BYTES: Final = 4
"""Of one character, at most."""
_HEADERS: Final = {"User-Agent": "agentfactory", "Accept": "text/*, application/json;q=0.9, */*;q=0.1"}


class _Page(NamedTuple):
    """What a host answered."""

    data: bytes
    charset: str
    is_html: bool


class FetchTool:
    """Gets pages. A part of the box that its tool is in."""

    def __init__(self, settings: FetchSettings, allow_weak: bool = False) -> None:
        self._settings = settings
        self._jobs = ForkedJobRunner(
            _MODULE, settings.memory_mb, _PARALLEL, allow_weak, output_bytes=_UTF8_BYTES * settings.max_chars
        )
        self._http: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<FetchTool {', '.join(self._settings.hosts) or 'no hosts'}>"

    async def start(self) -> None:
        """Make the client; nothing is asked yet. Raises SandboxError where pages cannot be confined here."""
        import aiohttp

        await self._jobs.start()
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
                page = await self._fetch(url)
        except TimeoutError as error:
            raise ToolError(f"no answer within {self._settings.timeout_s:g} s", "timeout") from error
        return sanitize_output(await self._text(page), self._settings.max_chars) or _NOTHING

    async def _text(self, page: _Page) -> str:
        """The page as text, one character more than is shown. Raises ToolError."""
        job: list[JsonValue] = [
            base64.b64encode(page.data).decode(),
            page.charset,
            page.is_html,
            self._settings.max_chars + 1,
        ]
        try:
            return await self._jobs.do(job, self._settings.text_timeout_s)
        except ToolError as error:
            raise ToolError(f"the page cannot be read: {error}", error.failure) from error

    async def _fetch(self, url: str) -> _Page:
        for _ in range(self._settings.max_redirects + 1):
            target = check_url(url, self._settings)
            address = numeric_address(target.host)
            if address is not None:  # such a host is never looked up, and so not checked there
                check_addresses(target.host, [address], self._settings)
            answer = await self._get(target)
            if isinstance(answer, _Page):
                return answer
            url = urljoin(target.url, answer)
        raise ToolError(f"more than {self._settings.max_redirects} redirects")

    async def _get(self, target: FetchTarget) -> str | _Page:
        """Where a redirect leads, or the page. Raises ToolError."""
        import aiohttp

        if self._http is None:
            raise ToolError("the fetch tool is closed", "crashed")
        try:
            async with self._http.get(target.url, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", "")
                if response.status != 200:
                    raise ToolError(
                        f"{target.host} answered {response.status} {response.reason or ''}".rstrip()
                    )
                return await self._read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = _refusal(error)
            if refused is not None:
                raise refused from error
            raise ToolError(f"{target.host} cannot be asked: {error or type(error).__name__}") from error

    async def _read(self, response: "aiohttp.ClientResponse") -> _Page:
        """The page, as far as the limit allows."""
        kind = response.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
        if not _TEXT.match(kind):
            raise ToolError(f"the page is {kind}, not text")
        limit = self._settings.max_kb * 1024
        data = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            data += chunk[: limit - len(data)]
            if len(data) >= limit:
                break
        return _Page(bytes(data), response.charset or "utf-8", "html" in kind)

    async def aclose(self) -> None:
        """Close all connections, kill what runs."""
        await self._jobs.aclose()
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


def _open(host: ToolHost) -> Tool:
    return host.share(FetchTool(host.settings.toolbox.fetch, host.settings.sandbox.allow_weak)).fetch


FETCH: Final = SharedTool(
    spec=lambda _: FetchTool.fetch,
    open=_open,
    limits=lambda settings: (settings.toolbox.fetch,),
    usable=lambda settings: bool(settings.toolbox.fetch.hosts or settings.toolbox.fetch.private_hosts),
)
