"""Skills: functions that a model wrote, and that have become tools.

A skill's source is read here, and never run here: its hints and its docstring are taken from the syntax tree,
each call runs in the sandbox.

Invariant: what the folder holds is checked when it is written there and when it is loaded; a file that does
not pass is left out, and why is logged and kept.
"""

import ast
import re
import secrets
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from pydantic import TypeAdapter, ValidationError

from ...configs.printable import printable
from ...messages.chat import JsonObject
from ...messages.turns import ToolResult
from ..sandbox.python import PythonSandbox
from .base import ToolError, failed, sanitize_output
from .docstrings import read_docstring
from .parameters import REQUIRED, Parameter, Parameters
from .type_hints import UnknownType, type_of

NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,40}")
MAX_CHARACTERS: Final = 50_000
_MAX_BYTES: Final = 4 * MAX_CHARACTERS
MAX_DESCRIPTION: Final = 300
"""Characters of a docstring that others are shown."""
_HEADER: Final = "# The function {function} of this file is the tool {name}.\n"
_HEADER_PATTERN: Final = re.compile(r"# The function (\w+) of this file is the tool (\w+)\.\n")
_MARK: Final = "\x1eresult:"


class Skill(NamedTuple):
    """A function that passed the checks."""

    name: str
    """Of the tool."""
    function: str
    source: str
    description: str
    parameters: Parameters
    result: TypeAdapter[object]


class SkillTool:
    """A skill as a tool: each call runs anew in the sandbox."""

    def __init__(self, skill: Skill, sandbox: PythonSandbox) -> None:
        """`sandbox` belongs to the box."""
        self.name = skill.name
        self.description = skill.description
        self.parameters: JsonObject | None = skill.parameters.schema
        self._skill = skill
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return f"<SkillTool {self.name}>"

    async def start(self) -> None:
        """Nothing to do."""

    async def call(self, text: str) -> ToolResult:
        """Run the function with these arguments."""
        skill = self._skill
        try:
            arguments = skill.parameters.read(text)
        except ToolError as error:
            return failed(str(error), error.failure)
        code = f"{skill.source}\n\nprint({_MARK!r} + repr({skill.function}(**{arguments!r})))"
        result = await self._sandbox.run(code)
        return self._checked(result) if result.ok else result

    def _checked(self, result: ToolResult) -> ToolResult:
        """What the function gave back, under what it printed."""
        printed, _, written = result.output.rpartition(_MARK)
        try:
            value = self._skill.result.validate_python(ast.literal_eval(written))
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "no plain value"
            return failed(f"{self.name} gave back what it must not: {problem}", "crashed")
        shown = value if isinstance(value, str) else self._skill.result.dump_json(value).decode()
        output = f"{printed.rstrip()}\n{shown}" if printed.strip() else shown
        return result.model_copy(update={"output": output})

    async def aclose(self) -> None:
        """Nothing to let go of."""


class SkillStore:
    """The folder of skills: `NAME.py` each. All of it blocks.

    A file may have been put there by hand: then its one public function is the tool, or, of several, the one
    that is called like the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.problems: tuple[str, ...] = ()
        """Why files were left out when the skills were loaded last: a sentence each."""

    def load(self) -> list[Skill]:
        """All skills, by name."""
        found: list[Skill] = []
        problems: list[str] = []
        for path in sorted(self._folder.glob("*.py")):
            try:
                found.append(_read_file(path))
            except (ToolError, OSError, UnicodeDecodeError) as error:
                problems.append(f"{printable(str(path))} is no skill: {error}")
                structlog.get_logger().warning("skill_left_out", file=path.name, error=str(error))
        self.problems = tuple(problems)
        return found

    def keep(self, skill: Skill) -> None:
        """Write a skill down, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{skill.name}.py"
        new = path.with_suffix(f".{secrets.token_hex(8)}.new")
        new.write_text(
            _HEADER.format(function=skill.function, name=skill.name) + skill.source, encoding="utf-8"
        )
        new.replace(path)


def _read_file(path: Path) -> Skill:
    """Raises ToolError with what is missing, OSError or UnicodeDecodeError."""
    if not path.is_file():
        raise ToolError("it is no plain file")
    if path.stat().st_size > _MAX_BYTES:
        raise ToolError(f"it has more than {MAX_CHARACTERS} characters")
    source = path.read_text(encoding="utf-8")
    header = _HEADER_PATTERN.match(source)
    if header is None:
        return read_skill(source, _public_function(source, path.stem), path.stem)
    if header[2] != path.stem:
        raise ToolError(f"its first line says that it is the tool {header[2]}")
    return read_skill(source[header.end() :], header[1], header[2])


def _public_function(source: str, stem: str) -> str:
    """The function that a file is about. Raises ToolError where that is not plain."""
    names = [
        node.name
        for node in _parsed(source).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    if stem in names:
        return stem
    if len(names) != 1:
        has = f"it defines {', '.join(names)}" if names else "it defines none"
        raise ToolError(f"which function is the tool is not plain: {has}; call it {stem}, as the file")
    return names[0]


def _parsed(source: str) -> ast.Module:
    """The syntax tree. Raises ToolError."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise ToolError(f"the file is not Python: {where}") from error


def read_skill(source: str, function: str, name: str) -> Skill:
    """Check a source and take from it what a tool needs. Raises ToolError with what is missing."""
    if not NAME.fullmatch(name):
        raise ToolError(f"{name!r} is no name for a tool: write small letters, digits and _, at least two")
    if len(source) > MAX_CHARACTERS:
        raise ToolError(f"the file has {len(source)} characters, at most {MAX_CHARACTERS} are taken")
    tree = _parsed(source)
    found = _find(tree, function)
    description = read_docstring(ast.get_docstring(found))
    if not description.summary:
        raise ToolError(f"{function} needs a docstring: it is what others are told of the tool")
    if found.returns is None:
        raise ToolError(f"{function} needs a type hint for what it gives back")
    return Skill(
        name=name,
        function=function,
        source=_without_main(source, tree),
        description=sanitize_output(description.summary, MAX_DESCRIPTION),
        parameters=_parameters(found, description.parameters),
        result=TypeAdapter(_type(found.returns, f"what {function} gives back")),  # type: ignore[arg-type]
    )


def _find(tree: ast.Module, function: str) -> ast.FunctionDef:
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if function not in defined:
        there = f"there are: {', '.join(defined)}" if defined else "there is none"
        raise ToolError(f"the file defines no function {function} at its top level; {there}")
    return defined[function]


def _parameters(found: ast.FunctionDef, described: dict[str, str]) -> Parameters:
    arguments = found.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        raise ToolError(f"{found.name} may only have parameters with names: no *, ** or /")
    named = [*arguments.args, *arguments.kwonlyargs]
    missing = [None] * (len(arguments.args) - len(arguments.defaults))
    defaults = [*missing, *arguments.defaults, *arguments.kw_defaults]
    read: dict[str, Parameter] = {}
    for argument, default in zip(named, defaults, strict=True):
        if argument.annotation is None:
            raise ToolError(f"parameter {argument.arg} of {found.name} needs a type hint")
        hint = _type(argument.annotation, f"parameter {argument.arg}")
        value = REQUIRED if default is None else _default(argument.arg, default)
        said = sanitize_output(described.get(argument.arg, ""), MAX_DESCRIPTION)
        read[argument.arg] = Parameter(hint, value, said)
    return Parameters(read)


def _type(hint: ast.expr, where: str) -> object:
    try:
        return type_of(hint)
    except UnknownType as error:
        raise ToolError(
            f"the type hint {error} of {where} is not known here; use int, float, str, bool, list, dict, "
            "tuple, set, Literal, or unions of them"
        ) from error


def _default(name: str, node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ToolError(f"the default of {name} has to be a plain value") from error


def _without_main(source: str, tree: ast.Module) -> str:
    """Without `if __name__ == "__main__":`, which would run at every call."""
    lines = source.splitlines(keepends=True)
    for node in reversed(tree.body):
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test) and node.end_lineno:
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)
