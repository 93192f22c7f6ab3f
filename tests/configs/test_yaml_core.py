"""YAML is read as version 1.2 has it, and what is written reads the same in both versions."""

import math
from pathlib import Path

import pytest
import yaml
from pydantic import JsonValue

from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import load_settings
from agentfactory.configs.yaml_core import YamlSyntaxError, format_yaml, parse_mapping, parse_yaml

TEXT = ["1:30", "1:30:00", "on", "Off", "YES", "no", "y", "n", "1_000", "2026-01-02", "2026-01-02T03:04:05Z"]
TEXT += ["tRue", "-0x1", "0b11", "+.nan", "=", "<<", "12e", "1.2.3", "inf", "nan"]
NUMBERS = [("0o17", 15), ("017", 17), ("0x1F", 31), ("-12", -12), ("+3", 3), (".5", 0.5), ("1e3", 1000.0)]
NUMBERS += [("1.", 1.0), ("-2.5E-1", -0.25), ("-.inf", -math.inf), ("12e03", 12000.0)]


@pytest.mark.parametrize("text", TEXT)
def test_what_only_the_old_version_takes_for_something_else_is_text(text: str) -> None:
    assert parse_yaml(text) == text


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_numbers_are_what_they_look_like(text: str, number: float) -> None:
    value = parse_yaml(text)
    assert value == number
    assert type(value) is type(number)


def test_null_and_truth_have_three_spellings_each() -> None:
    assert parse_yaml("[~, null, Null, NULL, ]") == [None] * 4
    assert parse_yaml("[true, True, TRUE, false, False, FALSE]") == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "line 2: 'a' stands twice in one section"),
        ("a: [1", "line 1: "),
        ("a\n\x01", "line 2: the character 1 is not allowed"),
        ("!!int 1:30", "not valid YAML"),
        ("!!bool maybe", "not valid YAML"),
        ("!!timestamp 2026-01-02", "could not determine a constructor"),
        ("!!python/object/apply:os.getpid []", "could not determine a constructor"),
        ("[" * 5000, "nested too deeply"),
        ("{[1]: 2}", "unhashable"),
    ],
)
def test_what_is_not_yaml_says_where(text: str, words: str) -> None:
    with pytest.raises(YamlSyntaxError) as caught:
        parse_yaml(text)
    assert words in str(caught.value)


def test_a_text_without_keys_is_no_section() -> None:
    with pytest.raises(YamlSyntaxError, match="expected keys and values, found list"):
        parse_mapping("[1]")


@pytest.mark.parametrize(
    "value", [*TEXT, "0o17", "017", "1e3", ".5", "~", "", "true", "é\nx", 1, 1e20, True, None]
)
def test_what_is_written_reads_the_same_in_both_versions(value: JsonValue) -> None:
    text = format_yaml({"key": value})  # type: ignore[dict-item]
    assert parse_yaml(text) == yaml.safe_load(text) == {"key": value}


def test_a_settings_file_is_read_so(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: laptop\nname: on\ndescription: 1:30\nseed: 0o17\n")
    settings = load_settings(str(tmp_path / "mine.yaml"))
    assert (settings.name, settings.description, settings.seed) == ("on", "1:30", 15)
    (tmp_path / "mine.yaml").write_text("extends: laptop\nloop:\n  rounds: 1:30\n")
    with pytest.raises(SettingsError, match=r"loop\.rounds: .*found '1:30'"):
        load_settings(str(tmp_path / "mine.yaml"))
