"""Every chat template that trl ships, rendered here and by transformers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trl
from transformers.utils.chat_template_utils import render_jinja_template

from agentfactory.messages.chat import JsonObject
from agentfactory.runtime.engines.chat.format import ChatFormat, ChatFormatError, ChatMessage
from agentfactory.runtime.engines.chat.template import ChatTemplate
from tests.runtime.engines.test_chat_format import CHATML, spelled, write_chatml

FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
SPECIALS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
WEATHER: JsonObject = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a <town> & its surroundings.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "Where, such as “Tromsø”."},
                "days": {"type": "integer", "enum": [1, 3]},
            },
            "required": ["town"],
        },
    },
}
ARGUMENTS: JsonObject = {"town": 'Tromsø "north" <b>', "days": 3}


def called(arguments: JsonObject | str) -> JsonObject:
    function: JsonObject = {"name": "get_weather", "arguments": arguments}
    return {"id": "call00001", "type": "function", "function": function}


def conversations() -> dict[str, list[JsonObject]]:
    asked: JsonObject = {"role": "user", "content": "Weather & wind in Tromsø?"}
    said: JsonObject = {"role": "assistant", "content": "<think>\nNorth.\n</think>\n\nCold."}
    calls: JsonObject = {"role": "assistant", "content": "", "tool_calls": [called(ARGUMENTS)]}
    as_text: JsonObject = {"role": "assistant", "content": "", "tool_calls": [called(json.dumps(ARGUMENTS))]}
    result: JsonObject = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "-7"}
    parts: JsonObject = {"role": "user", "content": [{"type": "text", "text": "Tromsø?"}]}
    return {
        "asked": [asked],
        "with a system message": [{"role": "system", "content": "Be brief."}, asked],
        "in parts": [parts],
        "answered": [asked, said, {"role": "user", "content": "And now?"}],
        "called": [asked, calls],
        "called with arguments as text": [asked, as_text],
        "told": [asked, calls, result],
    }


def outcome(render: Callable[[], str]) -> str:
    """The text, or that there is none; both sides render the same template, so reasons are alike."""
    try:
        return render()
    except Exception:
        return "refused"


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_transformers_renders_is_rendered_here_alike(name: str) -> None:
    source = TEMPLATES[name]
    template, rendered = ChatTemplate(source), 0
    for told, messages in conversations().items():
        for tools in (None, [WEATHER]):
            for prompted in (True, False):

                def theirs() -> str:
                    made = render_jinja_template(
                        [messages],  # noqa: B023 -- called at once
                        tools=tools,  # noqa: B023
                        chat_template=source,
                        add_generation_prompt=prompted,  # noqa: B023
                        **SPECIALS,
                    )
                    return str(made[0][0])

                def ours() -> str:
                    return template.render(messages, tools, SPECIALS, add_generation_prompt=prompted)  # noqa: B023

                expected = outcome(theirs)
                assert outcome(ours) == expected, (told, tools is not None, prompted)
                rendered += expected != "refused"
    assert rendered >= 4, "the template was tried with nothing that it takes"


def test_there_are_templates_to_compare() -> None:
    assert len(TEMPLATES) >= 72


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% generation %}a{% endgeneration %}", "a"),
        ("{%- generation -%} a {%- endgeneration -%}", "a"),
        ("{{ {'b': '<ü>', 'a': 1} | tojson }}", '{"b": "<ü>", "a": 1}'),
        ("{{ {'b': '<ü>'} | tojson(ensure_ascii=True) }}", '{"b": "<\\u00fc>"}'),
        ("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=True) }}", '{"a":2,"b":1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}", "13"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "1"),
        (
            "{% set s = namespace(n=0) %}{% for m in [1, 2] %}{% set s.n = s.n + m %}{% endfor %}{{ s.n }}",
            "3",
        ),
        ("{{ strftime_now('%Y') | length }}", "4"),
    ],
)
def test_a_template_has_what_transformers_offers(template: str, expected: str) -> None:
    assert ChatTemplate(template).render([], None, {}) == expected
    assert render_jinja_template([[]], chat_template=template)[0][0] == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ 'a' + {} }}",
        "{{ 1 / 0 }}",
        "{{ {}['x'].y }}",
        "{{ 'x' | int(base=99) | list }}",
        "{{ messages | tojson(indent='x', separators=1) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_whatever_fails_inside_of_a_template_is_an_error_of_its_own_kind(template: str) -> None:
    with pytest.raises(ChatFormatError, match="the model's chat template"):
        ChatTemplate(template).render([], None, {})


def test_a_model_with_a_template_for_tools_gets_it_where_there_are_tools(tmp_path: Path) -> None:
    named = [
        {"name": "default", "template": CHATML},
        {"name": "tool_use", "template": "{{ tools | length }} tools"},
        {"name": "rag", "template": "{% if %}"},
    ]
    write_chatml(tmp_path, named)  # type: ignore[arg-type]
    chat = ChatFormat.load(tmp_path)
    assert chat.takes_functions
    asked: JsonObject = {"role": "user", "content": "hi"}
    assert spelled(chat, tmp_path, chat.opening_with_functions([asked], [WEATHER])) == "1 tools"
    assert "<|im_start|>user\nhi" in spelled(chat, tmp_path, chat.opening([ChatMessage("user", "hi")]))
    more = tmp_path / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("{{ tools[0].function.name }}")
    again = ChatFormat.load(tmp_path)
    assert spelled(again, tmp_path, again.opening_with_functions([asked], [WEATHER])) == "get_weather"


@pytest.mark.parametrize("name", ["llava_next", "smolvlm", "idefics3"])
def test_a_template_that_reads_parts_only_loses_no_text(tmp_path: Path, name: str) -> None:
    write_chatml(tmp_path, TEMPLATES[name])
    chat = ChatFormat.load(tmp_path)
    assert "Oslo?" in spelled(chat, tmp_path, chat.opening([ChatMessage("user", "Oslo?")]))
    assert "rain" in spelled(chat, tmp_path, chat.observation("rain"))


def test_a_template_that_leaves_out_what_was_said_has_no_observations(tmp_path: Path) -> None:
    write_chatml(tmp_path, "{{ messages[0].content }}")
    with pytest.raises(ChatFormatError, match="leaves out"):
        ChatFormat.load(tmp_path).observation("rain")
