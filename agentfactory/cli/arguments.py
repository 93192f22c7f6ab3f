"""Arguments as all commands have them: what adds a command, and `KEY=VALUE` as it is said."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..configs.errors import BadInput

if TYPE_CHECKING:
    from ..configs.load import YamlValue


ENGINE_HELP: Final = "what runs the model: transformers, vllm, simulated, or the kind of an installed package"


class AddParser(Protocol):
    """`add_parser` of the command line's subparsers."""

    def __call__(self, name: str, *, help: str) -> argparse.ArgumentParser: ...  # noqa: D102


def assignment(text: str, example: str, option: str = "") -> "tuple[str, YamlValue]":
    """The key and the value, which is YAML. Raises BadInput, which names the `option` and shows `example`."""
    from ..configs.yaml_core import YamlSyntaxError, parse_yaml

    said = f"{option} {text}".strip()
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"{said}: expected KEY=VALUE, such as {example}")
    try:
        return key, parse_yaml(value)
    except YamlSyntaxError as error:
        raise BadInput(f"{said}: the value is not valid YAML ({error})") from error


def assignments(texts: Sequence[str], example: str, option: str = "") -> "dict[str, YamlValue]":
    """All of them; a key that is said twice is refused. Raises BadInput."""
    values: dict[str, YamlValue] = {}
    for text in texts:
        key, value = assignment(text, example, option)
        if key in values:
            raise BadInput(f"{option} {text}: {key} is said twice".lstrip())
        values[key] = value
    return values
