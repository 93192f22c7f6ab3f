"""Static checks of a piece of code. Standard library only: they are made in a sandboxed process."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_FENCED: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_OPEN_FENCE: Final = re.compile(r"^[ \t]*```[^\n`]*\n", re.MULTILINE)
_EVASIONS: Final = frozenset(
    {"eval", "exec", "compile", "getattr", "setattr", "globals", "locals", "vars"}
)  # fmt: skip
"""Functions that reach a forbidden name without writing it."""
_SYNTAX: Final[dict[str, tuple[type[ast.AST], ...]]] = {
    "for": (ast.For, ast.AsyncFor, ast.comprehension),
    "while": (ast.While,),
    "import": (ast.Import, ast.ImportFrom),
    "lambda": (ast.Lambda,),
    "if": (ast.If, ast.IfExp),
    "try": (ast.Try,),
    "class": (ast.ClassDef,),
    "comprehension": (ast.comprehension,),
    "global": (ast.Global, ast.Nonlocal),
}


def find_code(answer: str, function: str) -> str:
    """The code in an answer: its last fenced block, of those with the function in them if there are any.

    >>> find_code("So:\\n```python\\ndef f(x): return x\\n```\\nDone.", "f")
    'def f(x): return x\\n'
    """
    blocks: list[str] = _FENCED.findall(answer)
    if not blocks and (opened := _OPEN_FENCE.search(answer)):
        blocks = [answer[opened.end() :]]  # cut off before the fence was closed
    fitting = [block for block in blocks if re.search(rf"\b{re.escape(function)}\b", block)]
    return [answer, *blocks, *(fitting if function else [])][-1]


def lint_issues(code: str, function: str, parameters: int | None, forbidden: Sequence[str]) -> list[str]:
    """Problems of the code as it is written; empty if there are none."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        return [f"{where}this is no Python: {getattr(error, 'msg', error)}"]
    found = list(_missing(tree, function, parameters)) if function else []
    return found + [f"{name!r} may not be used" for name in forbidden if _uses(tree, name)]


def _missing(tree: ast.Module, function: str, parameters: int | None) -> Iterator[str]:
    """Report a function that is not there; one made by a call or an import counts, unless looked into."""
    names = {name for node in tree.body for name in _bound(node)}
    if function not in names:
        yield f"no function {function} is defined at the top level"
        return
    definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function]
    if parameters is not None and definitions and not _takes(definitions[-1].args, parameters):
        yield f"{function} does not take {parameters} argument{'' if parameters == 1 else 's'}"


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    else:
        yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _takes(arguments: ast.arguments, count: int) -> bool:
    most = len(arguments.posonlyargs) + len(arguments.args)
    least = most - len(arguments.defaults)
    needs_names = any(default is None for default in arguments.kw_defaults)
    return least <= count and (count <= most or arguments.vararg is not None) and not needs_names


def _uses(tree: ast.Module, name: str) -> bool:
    matches = _matcher(name)
    return any(matches(node) for node in ast.walk(tree))


def _matcher(name: str) -> Callable[[ast.AST], bool]:
    """A word of syntax by its nodes; a name by itself, as an attribute, or by what could hide it."""
    if name in _SYNTAX:
        return lambda node: isinstance(node, _SYNTAX[name]) or _hides(node)
    if name == "recursion":
        return lambda node: (
            isinstance(node, ast.FunctionDef)
            and any(isinstance(n, ast.Name) and n.id == node.name for n in ast.walk(node))
        )
    return lambda node: _named(node) == name or _hides(node)


def _named(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name
    return None


def _hides(node: ast.AST) -> bool:
    name = _named(node)
    return name is not None and (name in _EVASIONS or (name.startswith("__") and name != "__name__"))
