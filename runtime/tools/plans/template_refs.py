"""`$step` and `$step.key`: what stands in a plan's inputs for the answers of other steps.

`${step.key}` says where a reference ends; `$$` is a dollar sign. A text that is nothing but one reference
becomes the value itself, so that a number stays a number; elsewhere the value is written into the text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

_PATH: Final = r"(?:\.\w+)*+"
_REFERENCE: Final = re.compile(
    rf"\$(?:\$|\{{(?P<braced>\w+)(?P<braced_path>{_PATH})\}}|(?P<plain>\w+)(?P<plain_path>{_PATH}))"
)


class MissingPart(ValueError):
    """An answer has no such part. The message is for whoever wrote the plan."""


def references(value: JsonValue) -> Iterator[str]:
    """The steps that an input names, as often as it does."""
    for text in _texts(value):
        for found in _REFERENCE.finditer(text):
            step = found["braced"] or found["plain"]
            if step:
                yield step


def substituted(value: JsonValue, answers: Mapping[str, str]) -> JsonValue:
    """The input with the answers in it. Raises MissingPart."""
    match value:
        case str():
            return _in_text(value, answers)
        case list():
            return [substituted(inner, answers) for inner in value]
        case dict():
            return {key: substituted(inner, answers) for key, inner in value.items()}
        case _:
            return value


def _in_text(text: str, answers: Mapping[str, str]) -> JsonValue:
    alone = _REFERENCE.fullmatch(text)
    if alone is not None and alone[0] != "$$":
        return _look_up(alone, answers)
    return _REFERENCE.sub(lambda found: _written(found, answers), text)


def _written(found: re.Match[str], answers: Mapping[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    value = _look_up(found, answers)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _look_up(found: re.Match[str], answers: Mapping[str, str]) -> JsonValue:
    answer = answers[found["braced"] or found["plain"]]
    path = (found["braced_path"] or found["plain_path"] or "").split(".")[1:]
    if not path:
        return answer
    try:
        value: JsonValue = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise MissingPart(f"{found[0]}: what that step answered is not JSON") from error
    for key in path:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise MissingPart(f"{found[0]}: what that step answered has no {key!r}")
    return value


def _texts(value: JsonValue) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for inner in value:
                yield from _texts(inner)
        case dict():
            for inner in value.values():
                yield from _texts(inner)
