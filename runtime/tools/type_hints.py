"""Types out of source text, without running it: what a skill's hints mean.

Known are int, float, str, bool, None, Any, list, dict, tuple and set of them, Literal, Optional and unions.
"""

import ast
import typing
from collections.abc import Callable
from typing import Final

_SIMPLE: Final[dict[str, object]] = {
    "int": int, "float": float, "str": str, "bool": bool, "None": None, "object": typing.Any,
    "Any": typing.Any, "list": list, "List": list, "dict": dict, "Dict": dict, "tuple": tuple, "Tuple": tuple,
    "set": set, "Set": set, "Sequence": list, "Iterable": list, "Mapping": dict,
}  # fmt: skip


class UnknownType(ValueError):
    """A hint that says nothing to a model; the message is the hint."""


def type_of(hint: ast.expr) -> object:
    """The type that a hint means. Raises UnknownType.

    >>> type_of(ast.parse("dict[str, list[int] | None]", mode="eval").body)
    dict[str, typing.Optional[list[int]]]
    """
    match hint:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return type_of(_parsed(text))
        case ast.Name() | ast.Attribute():
            name = _name(hint)
            if name in _SIMPLE:
                return _SIMPLE[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[type_of(left), type_of(right)]  # noqa: UP007 - of values, not of types
        case ast.Subscript(value=value, slice=inner):
            return _generic(_name(value), inner, hint)
    raise UnknownType(ast.unparse(hint))


def _generic(name: str, inner: ast.expr, hint: ast.expr) -> object:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return typing.Literal[tuple(_literal(part) for part in parts)]
    if name == "Optional":
        return typing.Union[type_of(inner), None]  # noqa: UP007
    if name == "Union":
        return typing.Union[tuple(type_of(part) for part in parts)]  # noqa: UP007
    base = _SIMPLE.get(name)
    if base is tuple:
        return tuple[tuple(... if _is_ellipsis(part) else type_of(part) for part in parts)]  # type: ignore[misc]
    if base in (list, set, dict) and len(parts) == (2 if base is dict else 1):
        return typing.cast(Callable[[object], object], base.__class_getitem__)(
            tuple(type_of(part) for part in parts) if base is dict else type_of(parts[0])
        )
    raise UnknownType(ast.unparse(hint))


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id="typing"), attr=name):
            return name
    return ""


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | bool | None):
        return node.value
    raise UnknownType(ast.unparse(node))


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise UnknownType(text) from error
