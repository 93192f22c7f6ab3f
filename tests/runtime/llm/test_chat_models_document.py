"""The Python of docs/models.md runs as shown, with a local server and a stand-in program."""

import re
import sys
import textwrap
from pathlib import Path

import pytest

from tests.runtime.llm.model_server import WIRES, Act, Call, serving

DOCUMENT = Path(__file__).parents[3] / "docs" / "models.md"
CLAUDE = """#!{python}
import json, sys
assert sys.argv[1:] == ["-p", "--output-format", "json", "--system-prompt", "Be brief."], sys.argv
assert sys.stdin.read() == "What is 2 + 2?"
print(json.dumps({{"type": "result", "is_error": False, "result": "4", "usage": {{"output_tokens": 1}}}}))
"""


def example(number: int) -> str:
    found = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 3
    return str(found[number])


async def run(text: str, returns: str) -> object:
    names: dict[str, object] = {}
    exec(f"async def main():\n{textwrap.indent(text, '    ')}\n    return {returns}\n", names)
    return await names["main"]()  # type: ignore[operator]


async def test_the_first_example_runs_on_the_seed_model() -> None:
    assert await run(example(0), "reply.usage.completion_tokens")


async def test_the_example_of_functions_runs_on_a_server_that_speaks_ollamas_language() -> None:
    wire = next(wire for wire in WIRES if wire.name == "ollama")
    async with serving(wire) as server:
        called = Act(pieces=("",), calls=(Call("", "weather", {"town": "Oslo"}),))
        server.script = [Act(), called, Act(), Act(pieces=('{"town":', '"Oslo"}'))]
        text = example(1).replace("http://127.0.0.1:11434", server.url)
        assert await run(text, "reply.text") == '{"town":"Oslo"}'
        assert len(server.seen) == 4


async def test_the_example_of_a_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claude = tmp_path / "claude"
    claude.write_text(CLAUDE.format(python=sys.executable))
    claude.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert await run(example(2), "reply.text") == "4"
