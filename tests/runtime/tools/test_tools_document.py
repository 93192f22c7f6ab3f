"""The Python of docs/tools.md runs as shown."""

import re
from pathlib import Path

from agentfactory.messages.turns import ToolResult

DOCUMENT = Path(__file__).parents[3] / "docs" / "tools.md"


async def test_the_example_of_a_tool_of_ones_own_runs() -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    before, await_, after = text.partition("box = ToolSet")
    names: dict[str, object] = {"__name__": "example"}
    exec(before, names)
    body = "\n".join(f"    {line}" for line in f"{await_}{after}".splitlines())
    exec(f"async def main():\n{body}\n    return warm, wrong, said\n", names)
    warm, wrong, said = await names["main"]()  # type: ignore[operator]
    assert warm == ToolResult(output="68.0", ok=True, duration_s=warm.duration_s)
    assert wrong.output.startswith("Error: argument unit: Input should be 'C' or 'F', found K")
    assert [form.get("name", form.get("type")) for form in said] == ["function", "temperature"]
