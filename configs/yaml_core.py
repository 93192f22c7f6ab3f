"""YAML as its version 1.2 reads it (the core schema), for every file and option of the project.

PyYAML follows version 1.1, in which `1:30` is 90, `on`, `off`, `yes` and `no` are truth values,
`017` is 15, `1_000` is a number, `1e3` is none, and `2026-01-02` is a date. Here a plain scalar is
null, true, false, a number as JSON has them (also `.5`, `0o17`, `0x1f`, `.inf`, `.nan`), or text.
Source: YAML 1.2.2, section 10.3.2.
"""

import re
from collections.abc import Hashable
from typing import ClassVar, Final

import yaml

from .errors import SettingsError

YamlValue = None | bool | int | float | str | list["YamlValue"] | dict[str, "YamlValue"]

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)
_NOT_CORE: Final = {f"{_TAG}{kind}" for kind in ("timestamp", "binary", "set", "omap", "pairs")}
_BASES: Final = {"0o": 8, "0x": 16}


class YamlSyntaxError(SettingsError):
    """A text that is not YAML; the message says where and why."""


def parse_yaml(text: str) -> YamlValue:
    """The value that a text stands for. Raises YamlSyntaxError."""
    try:
        value: YamlValue = yaml.load(text, _CoreLoader)  # it is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise YamlSyntaxError(f"{where}{error.problem or error.context or 'not valid YAML'}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlSyntaxError(f"line {line}: the character {error.character!r} is not allowed") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:  # a value that its tag refuses
        raise YamlSyntaxError(f"not valid YAML ({error})") from error
    except RecursionError as error:
        raise YamlSyntaxError("nested too deeply") from error
    return value


def parse_mapping(text: str) -> dict[str, YamlValue]:
    """Keys and values. Raises YamlSyntaxError, also for anything else."""
    value = parse_yaml(text)
    if not isinstance(value, dict):
        raise YamlSyntaxError(f"expected keys and values, found {type(value).__name__}")
    return value


def format_yaml(value: YamlValue | dict[str, YamlValue]) -> str:
    """Text that both versions of YAML read as this value; keys stay in their order."""
    text: str = yaml.dump(value, Dumper=_BothVersionsDumper, sort_keys=False, allow_unicode=True)
    return text


class _CoreLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one section, where YAML itself would silently take the last."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way
    yaml_constructors: ClassVar = {
        tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if tag not in _NOT_CORE
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands twice in one section", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def read_text(self, node: yaml.ScalarNode) -> str:
        """`<<` where it is no key."""
        return str(self.construct_scalar(node))

    def read_int(self, node: yaml.ScalarNode) -> int:
        """`0o17`, `0x1f`, and everything else to the base of ten."""
        text = self.construct_scalar(node)
        return int(text, _BASES.get(text[:2], 10))

    def read_float(self, node: yaml.ScalarNode) -> float:
        """Python's own notation, but for the dot of `.inf` and `.nan`."""
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _BothVersionsDumper(yaml.SafeDumper):
    """Quotes what either version would take for something else than text."""


_CoreLoader.add_constructor(f"{_TAG}int", _CoreLoader.read_int)
_CoreLoader.add_constructor(f"{_TAG}float", _CoreLoader.read_float)
_CoreLoader.add_constructor(f"{_TAG}merge", _CoreLoader.read_text)
for _name, _pattern, _first in _SCALARS:
    for _yaml in (_CoreLoader, _BothVersionsDumper):
        _yaml.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)
