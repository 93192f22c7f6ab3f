"""JSON Schemas of all messages, for readers in other languages: `python -m agentfactory.messages.schema`."""

import importlib
import json
import pkgutil
import sys

from . import __path__ as package_path
from .base import SCHEMA_VERSION, Event, Message, Request

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def message_classes() -> dict[str, type[Message]]:
    """Every message class of this package, by name."""
    found: dict[str, type[Message]] = {}
    for info in pkgutil.iter_modules(package_path):
        module = importlib.import_module(f"{__package__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Message) and value.__module__ == module.__name__:
                found[value.__name__] = value
    bases = {base.__name__ for base in (Message, Request, Event)}
    return {name: found[name] for name in sorted(found) if name.partition("[")[0] not in bases}


def export_schemas() -> dict[str, JsonValue]:
    """One document: the schema version, and each class's JSON Schema under its name."""
    schemas: dict[str, JsonValue] = {name: cls.model_json_schema() for name, cls in message_classes().items()}
    return {"schema_version": SCHEMA_VERSION, "messages": schemas}


def main() -> None:
    """Print the document."""
    json.dump(export_schemas(), sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
