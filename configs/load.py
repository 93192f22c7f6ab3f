"""Settings from presets and YAML files, with errors that name the file, the key and what was expected."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import SettingsError
from configs.section import Section
from configs.settings import Settings

PRESETS = Path(__file__).parent / "presets"

SectionT = TypeVar("SectionT", bound=Section)
YamlValue = None | bool | int | float | str | list["YamlValue"] | dict[str, "YamlValue"]


def preset_names() -> tuple[str, ...]:
    """The presets that ship with the project."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def load_settings(name_or_file: str = "laptop", overrides: Mapping[str, YamlValue] | None = None) -> Settings:
    """Load a preset by name, or a YAML file that may build on one with `extends: NAME`.

    `overrides` maps dotted keys (`loop.rounds`) to values that win over the file's.
    Raises SettingsError, which names the file and the key.
    """
    path = _find(name_or_file)
    values = _read_with_base(path, seen=())
    for key, value in (overrides or {}).items():
        values = _merge(values, _nest(key, value))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(describe(error, where=str(path), model=Settings)) from error


def load_section(path: Path, section: type[SectionT]) -> SectionT:
    """Read a YAML file that holds one section. Raises SettingsError, which names the file and the key."""
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such settings file")
    try:
        return section.model_validate(read_yaml(path))
    except ValidationError as error:
        raise SettingsError(describe(error, where=str(path), model=section)) from error


def read_stored(path: Path) -> Settings:
    """Read the settings that a run keeps in its folder."""
    try:
        return Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); expected a run's settings"
        ) from error
    except ValidationError as error:
        raise SettingsError(describe(error, where=str(path), model=Settings)) from error


def describe(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """One sentence for a validation error: the file, the key, what was found and expected."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key {key!r}; {hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    found = f", found {first['input']!r}" if key and not isinstance(first["input"], dict) else ""
    return f"{where}: {key or 'settings'}: {message}{found}{more}"


def _find(name_or_file: str) -> Path:
    preset = PRESETS / f"{name_or_file}.yaml"
    if "/" not in name_or_file and preset.is_file():
        return preset
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} or "/" in name_or_file:
        if path.is_file():
            return path
        raise SettingsError(f"{path}: there is no such settings file")
    names = preset_names()
    close = difflib.get_close_matches(name_or_file, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"presets: {', '.join(names)}"
    raise SettingsError(f"unknown preset {name_or_file!r}; {hint} (or give a .yaml file)")


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, YamlValue]:
    if path.resolve() in seen:
        raise SettingsError(f"{path}: extends: the files extend one another in a circle")
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise SettingsError(f"{path}: extends: expected the name of a preset or a file")
    beside = path.parent / base
    base_path = beside if beside.is_file() else _find(base)
    return _merge(_read_with_base(base_path, (*seen, path.resolve())), values)


def read_yaml(path: Path) -> dict[str, YamlValue]:
    """The keys and values of a YAML file. Raises SettingsError, which names the file and the line."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"line {line + 1}" if line is not None else "somewhere"
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SettingsError(f"{path}: {where}: {problem}") from error
    if not isinstance(loaded, dict):
        raise SettingsError(f"{path}: expected keys and values, found {type(loaded).__name__}")
    return loaded


def _nest(dotted: str, value: YamlValue) -> dict[str, YamlValue]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _merge(base: Mapping[str, YamlValue], over: Mapping[str, YamlValue]) -> dict[str, YamlValue]:
    """`over` wins, key by key; a section of another `kind` replaces the old one whole."""
    merged = dict(base)
    if "kind" in over and over["kind"] != base.get("kind"):
        return dict(over)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the section that `loc` points into (through unions and tags)."""
    current = model
    for part in loc:
        field = current.model_fields.get(str(part))
        if field is None:
            continue  # the tag of a union
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not models:
            return []
        current = next((m for m in models if _tag(m) in [str(part) for part in loc]), models[0])
    return sorted(current.model_fields)


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return str(kind.default) if kind else None
