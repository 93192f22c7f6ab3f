"""Every field of the settings, given what it cannot be: one sentence, which blames whoever said it."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agentfactory.configs import load
from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import _sections, load_settings, read_yaml
from agentfactory.configs.settings import Settings
from agentfactory.configs.yaml_core import YamlValue, format_yaml

WRONG: tuple[YamlValue, ...] = (
    *(None, "zzz", -1, -1e99, 1e99, float("nan"), float("inf"), True, [], [1], [[["a"]]], {}, {"a": 1}),
    *("", "\0", 10**30, {"kind": "zzz"}, 0.5),
)
MAX_SENTENCE = 600


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        if "tuple" not in str(field.annotation):
            for section in _sections(field.annotation):
                yield from fields(section, f"{prefix}{name}.")


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of settings are made of one file."""
    monkeypatch.setattr(load, "read_yaml", lambda path: copy.deepcopy(_read(path)))


_read = cache(read_yaml)

KEYS = tuple(dict.fromkeys(key for key, _ in fields(Settings)))


def said(key: str, value: YamlValue) -> str:
    """The sentence with which a value is refused; empty where it is taken."""
    try:
        load_settings("laptop", {key: value}, said_by="--set")
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("section", sorted({key.split(".")[0] for key in KEYS}))
def test_a_wrong_value_is_one_sentence_that_blames_the_option(section: str) -> None:
    refusals = 0
    for key in (key for key in KEYS if key.split(".")[0] == section):
        for value in WRONG:
            if sentence := said(key, value):
                assert sentence.startswith(f"--set {key}: ")
                assert "\n" not in sentence
                assert "Undefined" not in sentence
                assert len(sentence) < MAX_SENTENCE
                refusals += 1
    assert refusals


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_name_gets_the_nearest_one(key: str) -> None:
    sentence = said(f"{key}x", 1)
    assert sentence.startswith("--set ")
    assert f"unknown key '{key}x'; did you mean" in sentence or "kind" in key or "known keys" in sentence


def test_no_number_takes_a_truth_value_and_none_is_without_end() -> None:
    taken = [
        (key, value) for key in KEYS for value in (True, float("inf"), float("nan")) if not said(key, value)
    ]
    annotations = dict(fields(Settings))
    assert {annotations[key].annotation for key, _ in taken} == {bool}


def test_the_same_in_a_file_blames_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "read_yaml", read_yaml)
    file = tmp_path / "mine.yaml"
    wrong = (("loop.rounds", "many"), ("loop.round", 3), ("rewards.terms", [{"kind": "corectness"}]))
    for key, value in wrong:
        section, name = key.split(".")
        file.write_text(format_yaml({"extends": "laptop", section: {name: value}}))  # type: ignore[dict-item]
        with pytest.raises(SettingsError) as caught:
            load_settings(str(file), {"seed": 1}, said_by="--set")
        assert str(caught.value).startswith(f"{file}: ")


def test_an_option_is_blamed_for_what_does_not_fit_the_rest() -> None:
    sentence = said("student.max_tokens_per_turn", 9999)
    assert sentence.startswith("--set student.max_tokens_per_turn: ")
    assert "must be smaller than engine.max_context" in sentence
