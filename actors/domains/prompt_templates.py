"""Prompts from jinja2 files: a domain's own, and where it has none of a name, the one that all share.

    teacher_system.jinja   what the Teacher is told
    teacher_user.jinja     what it is asked: `domain`, `difficulty`, `passage`
    student_system.jinja   what the Student is told: `tools`
    task.jinja             what it is asked: `description`
    examples.yaml          worked examples of both, of which a setting says how many are shown

Only the project's own files are templates; descriptions, passages and tools are values that go in as
they are.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from ...configs.errors import BadInput, SettingsError
from ...configs.yaml_core import parse_yaml
from ...messages.search import Passage
from ...runtime.engines.chat.format import ChatMessage
from ...runtime.tools.base import ToolSpec
from ...runtime.tools.tool_formats import prompt_line

SHARED: Final = Path(__file__).parent / "prompts"


class Examples(TypedDict):
    """A domain's worked examples, the plainest first."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    teacher: list[str]
    student: list[str]


class Prompts:
    """The prompts of one domain, with `examples` worked examples in each (0: none)."""

    def __init__(self, domain: str, folder: Path, examples: int = 0) -> None:
        self._domain = domain
        self._templates = _environment(folder)
        self._teachers: Sequence[str] = ()
        self._students: Sequence[str] = ()
        if examples:
            shown = read_examples(folder)
            self._teachers, self._students = shown["teacher"][:examples], shown["student"][:examples]

    def for_teacher(
        self, difficulty: float, passage: Passage | None = None, **values: object
    ) -> list[ChatMessage]:
        """Ask for one task, made from the passage if there is one; `values` go into the system prompt."""
        system = self._render("teacher_system.jinja", examples=self._teachers, **values)
        asked = self._render(
            "teacher_user.jinja", domain=self._domain, difficulty=difficulty, passage=passage
        )
        return [ChatMessage("system", system), ChatMessage("user", asked)]

    def for_student(self, description: str, tools: Sequence[ToolSpec]) -> list[ChatMessage]:
        """The conversation as it stands before the Student's first turn."""
        system = self._render("student_system.jinja", examples=self._students, tools=tools)
        return [
            ChatMessage("system", system),
            ChatMessage("user", self._render("task.jinja", description=description)),
        ]

    def _render(self, name: str, **values: object) -> str:
        return self._templates.get_template(name).render(values)


@cache
def read_examples(folder: Path) -> Examples:
    """The examples in a folder of prompts. Raises BadInput where they cannot be read."""
    file = folder / "examples.yaml"
    try:
        return TypeAdapter(Examples).validate_python(parse_yaml(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, SettingsError) as error:
        raise BadInput(f"{file}: there are no examples to show: {error}") from error


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["without_markup"] = _without_markup
    environment.filters["prompt_line"] = prompt_line
    return environment


def _without_markup(text: str) -> str:
    """Break up what looks like a chat template's markup."""
    return text.replace("<|", "< |")
