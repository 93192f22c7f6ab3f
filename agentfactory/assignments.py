"""`--set KEY=VALUE`: settings from the command line."""

from collections.abc import Sequence

import yaml

from configs.errors import BadInput
from configs.load import YamlValue


def read_assignments(texts: Sequence[str]) -> dict[str, YamlValue]:
    """Values by dotted key. Raises BadInput."""
    return dict(_assignment(text) for text in texts)


def _assignment(text: str) -> tuple[str, YamlValue]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set {text}: expected KEY=VALUE, such as loop.max_staleness=0")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(f"--set {text}: the value is not valid YAML") from error
