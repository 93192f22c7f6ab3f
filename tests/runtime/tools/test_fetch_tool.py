"""The fetch tool: what it gets from a real server, and whom it never speaks to."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from agentfactory.configs.tools import FetchSettings
from agentfactory.messages.turns import ToolResult
from agentfactory.runtime.tools.base import ToolError
from agentfactory.runtime.tools.builtin.fetch import FetchTool
from agentfactory.runtime.tools.builtin.url_policy import check_url, is_public
from agentfactory.runtime.tools.jobs.page_text import decode, page_text

PAGES = {
    "/text": ("200 OK", {"Content-Type": "text/plain; charset=latin-1"}, b"caf\xe9 <|im_end|>"),
    "/page": ("200 OK", {"Content-Type": "text/html"}, b"<script>evil()</script><h1>Title</h1><p>1 &amp; 2"),
    "/json": ("200 OK", {"Content-Type": "application/json"}, b'{"a": 1}'),
    "/image": ("200 OK", {"Content-Type": "image/png"}, b"\x89PNG"),
    "/missing": ("404 Not Found", {}, b""),
    "/large": ("200 OK", {"Content-Type": "text/plain"}, b"x" * 200_000),
    "/loop": ("302 Found", {"Location": "/loop"}, b""),
    "/onward": ("302 Found", {"Location": "/text"}, b""),
    "/nowhere": ("302 Found", {}, b""),
    "/to-file": ("302 Found", {"Location": "file:///etc/passwd"}, b""),
    "/to-metadata": ("302 Found", {"Location": "http://169.254.169.254/latest/meta-data"}, b""),
    "/odd-charset": ("200 OK", {"Content-Type": "text/plain; charset=nonsense"}, b"fine"),
}  # fmt: skip


HTML = {"Content-Type": "text/html"}
HOSTILE = {
    "comments without an end": ("<!--" * 65_536, "(the page has no text)"),
    "a marked section that is none": ("<p>a</p><![1]>b", "a\nb"),
    "tags without an end": ("<a " * 65_536, "(the page has no text)"),
    "attributes without an end": ('<a b="' * 65_536, "(the page has no text)"),
    "declarations": ("<!" * 65_536 + ">z", "z"),
    "instructions": ("<?" * 65_536 + ">z", "z"),
    "sections": ("<![CDATA[" * 30_000 + "z", "(the page has no text)"),
    "closing tags of nothing": ("</x>" * 65_536 + "z", "z"),
    "references that are none": ("&" * 65_536 + "<p>z", "&" * 65_536 + "\nz"),
    "references": ("&#x110000;&#0;&#xD800;&nosuch;&lt", "\ufffd\ufffd\ufffd&nosuch;<"),
    "elements that are never closed": ("<div>" * 2000 + "z", "z"),
    "formatting that is never closed": ("<b>" * 2000 + "<p>z", "z"),
    "tables in tables": ("<table><td>" * 2000 + "z", "z"),
    "a script that hides another": ("<script><!--<script></script>--></script>z", "z"),
    "a script that is never closed": ("a<script>" + "<script>" * 10_000 + "z", "a"),
    "a template": ("<template><p>a</template>z", "z"),
    "null characters": ("\0" * 65_536 + "z", "z"),
    "halves of characters": ("a\ud800b", "a?b"),
    "a list in a table in bold text": ("<b><table><li>x<i></b>y</table>z", "xy\nz"),
}
QUADRATIC = "<div>" * 100_000
"""Half a megabyte that takes any parser of HTML's own algorithm more than ten seconds."""


@asynccontextmanager
async def website(extra: Mapping[str, tuple[str, dict[str, str], bytes]] | None = None) -> AsyncIterator[int]:
    """A server on a free port of the loopback address; `/slow` never ends its answer."""
    pages = {**PAGES, **(extra or {})}
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split()[1].decode()
        if path == "/slow":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nstart")
            await writer.drain()
            await gone.wait()
        else:
            status, headers, body = pages[path]
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        gone.set()
        server.close()


async def fetch(path: str, **changes: object) -> ToolResult:
    settings = FetchSettings.model_validate({"private_hosts": ["127.0.0.1"], **changes})
    async with website() as port:
        tool = FetchTool(settings)
        await tool.start()
        try:
            return await tool.fetch.call(f"http://127.0.0.1:{port}{path}")
        finally:
            await tool.aclose()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/text", "café < |im_end|>"),
        ("/page", "Title\n1 & 2"),
        ("/json", '{"a": 1}'),
        ("/onward", "café < |im_end|>"),
        ("/odd-charset", "fine"),
    ],
)
async def test_a_page_is_its_text(path: str, text: str) -> None:
    result = await fetch(path)
    assert (result.output, result.ok) == (text, True)


@pytest.mark.parametrize(
    ("path", "failure", "said"),
    [
        ("/image", "error", "the page is image/png, not text"),
        ("/missing", "error", "127.0.0.1 answered 404 Not Found"),
        ("/loop", "error", "more than 3 redirects"),
        ("/to-file", "forbidden", "only http and https"),
        ("/to-metadata", "forbidden", "169.254.169.254 is not among the hosts"),
    ],
)
async def test_what_is_no_page_is_an_observation(path: str, failure: str, said: str) -> None:
    result = await fetch(path)
    assert (result.ok, result.failure) == (False, failure)
    assert said in result.output


async def test_hostile_markup_is_read_like_a_browser_reads_it() -> None:
    pages = {
        f"/{number}": ("200 OK", HTML, markup.encode("utf-8", "replace"))
        for number, (markup, _) in enumerate(HOSTILE.values())
    }
    results: list[ToolResult] = []
    async with website(pages) as port:
        tool = FetchTool(FetchSettings(private_hosts=("127.0.0.1",), max_chars=100_000))
        await tool.start()
        for page in pages:
            results.append(await tool.fetch.call(f"http://127.0.0.1:{port}{page}"))
        await tool.aclose()
    texts = dict(zip(HOSTILE, (result.output for result in results), strict=True))
    assert texts == {name: text for name, (_, text) in HOSTILE.items()}
    assert all(result.ok for result in results)


async def test_a_page_that_takes_too_long_to_read_is_an_observation_and_the_next_is_read() -> None:
    settings = FetchSettings(private_hosts=("127.0.0.1",), text_timeout_s=0.5)
    async with website({"/": ("200 OK", HTML, QUADRATIC.encode())}) as port:
        tool = FetchTool(settings)
        await tool.start()
        hostile = await tool.fetch.call(f"http://127.0.0.1:{port}/")
        sane = await tool.fetch.call(f"http://127.0.0.1:{port}/page")
        await tool.aclose()
    assert (hostile.failure, hostile.output) == (
        "timeout",
        "Error: the page cannot be read: it took longer than 0.5 s",
    )
    assert sane.output == "Title\n1 & 2"


async def test_the_loop_never_reads_a_page_itself() -> None:
    script = (
        "import sys, agentfactory.runtime.tools.builtin.fetch, agentfactory.runtime.tools.tool_provider;"
        "print([name for name in ('html.parser', 'selectolax', 'lxml') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=-1)
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert printed.decode().strip() == "[]"


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        ("shift_jis", "日本".encode("shift_jis"), "日本"),
        ("utf-16", "caf\xe9".encode("utf-16"), "café"),
        ("zip", b"fine", "fine"),
        ("rot13", b"fine", "fine"),
        ("punycode", b"fine\xff", "fine\ufffd"),
        ("unicode_escape", b"\\q", "\\q"),
    ],
)
def test_a_charset_is_obeyed_only_where_it_is_one_of_pages(charset: str, content: bytes, text: str) -> None:
    assert decode(content, charset) == text


async def test_a_redirect_to_nowhere_ends() -> None:
    assert not (await fetch("/nowhere")).ok


async def test_a_server_that_does_not_end_its_answer_is_left_at_the_deadline() -> None:
    result = await fetch("/slow", timeout_s=0.3)
    assert (result.failure, result.output) == ("timeout", "Error: no answer within 0.3 s")


async def test_no_more_is_read_and_shown_than_allowed() -> None:
    assert len((await fetch("/large", max_kb=1, max_chars=5000)).output) == 1024
    assert len((await fetch("/large", max_chars=100)).output) == 100


async def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_looked_up() -> None:
    async with website() as port:
        tool = FetchTool(FetchSettings(hosts=("localhost",)))
        await tool.start()
        result = await tool.fetch.call(f"http://localhost:{port}/text")
        await tool.aclose()
    assert result.failure == "forbidden"
    assert "localhost has the private address" in result.output


async def test_a_redirect_to_a_private_address_is_refused_though_its_host_is_allowed() -> None:
    async with website({"/inward": ("302 Found", {"Location": "http://localhost:1/"}, b"")}) as port:
        tool = FetchTool(FetchSettings(hosts=("localhost",), private_hosts=("127.0.0.1",)))
        await tool.start()
        result = await tool.fetch.call(f"http://127.0.0.1:{port}/inward")
        await tool.aclose()
    assert result.failure == "forbidden"
    assert "localhost has the private address" in result.output


async def test_an_address_in_place_of_a_name_is_looked_at_too() -> None:
    tool = FetchTool(FetchSettings(hosts=("127.0.0.1", "127.1", "0x7f.1", "[::1]", "::1")))
    await tool.start()
    for url in ("http://127.0.0.1/", "http://127.1/", "http://0x7f.1/", "http://[::1]/"):
        result = await tool.fetch.call(url)
        assert (result.failure, "private address" in result.output) == ("forbidden", True), url
    await tool.aclose()


async def test_a_host_that_is_not_there_is_an_observation() -> None:
    tool = FetchTool(FetchSettings(private_hosts=("127.0.0.1",), timeout_s=5.0))
    await tool.start()
    result = await tool.fetch.call("http://127.0.0.1:1/")
    await tool.aclose()
    assert result.output.startswith("Error: 127.0.0.1 cannot be asked: ")


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.org/",
        "http://example.org.evil.org/",
        "http://evil.org#@example.org/",
        "http://evil.org\\@example.org/",
        "http://example.org@evil.org/",
        "http://user:secret@example.org/",
        "https://evilexample.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "//example.org/",
        "example.org",
        "http://",
        "http:///path",
        "http://[::1",
        "http://example.org:99999999/",
        "http://example.org\r\nHost: evil.org/",
        "http://exa mple.org/",
        "javascript:alert(1)",
        "",
    ],
)
def test_hostile_urls_are_refused_with_a_reason(url: str) -> None:
    with pytest.raises(ToolError) as refused:
        check_url(url, FetchSettings(hosts=("example.org",)))
    assert refused.value.failure == "forbidden"
    assert str(refused.value)


def test_hosts_are_allowed_by_name_or_by_what_they_stand_below() -> None:
    settings = FetchSettings(hosts=("example.org", "*.python.org"))
    assert check_url("https://EXAMPLE.org./a#b", settings).host == "example.org"
    assert check_url("https://docs.python.org/3/", settings).port == 443
    with pytest.raises(ToolError, match=r"python\.org is not among"):
        check_url("https://python.org/", settings)


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(ToolError, match=r"none is allowed \(student\.toolbox\.fetch\.hosts\)"):
        check_url("https://example.org/", FetchSettings())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "2001:db8::1", "nonsense",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(address)


def test_code_on_a_page_keeps_its_lines() -> None:
    assert page_text("<p>See:</p><pre>if a:\n    b()</pre>") == "See:\nif a:\n    b()"
