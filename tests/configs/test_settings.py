"""Settings: presets load, and every error names the file, the key and what was expected."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agentfactory.cluster.launch import needs_data_plane
from agentfactory.configs.data import DataSettings, StoreSettings
from agentfactory.configs.errors import SettingsError
from agentfactory.configs.load import YamlValue, load_settings, preset_names, read_stored
from agentfactory.configs.settings import Settings


def written(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_loads(name: str) -> None:
    assert load_settings(name).name == name


def test_the_laptop_is_a_preset() -> None:
    assert "laptop" in preset_names()


def test_settings_are_frozen_and_their_digest_is_stable() -> None:
    settings = load_settings("laptop")
    with pytest.raises(Exception, match="frozen"):
        settings.seed = 3
    assert settings.sha256() == load_settings("laptop").sha256()
    assert settings.sha256() != load_settings("laptop", {"seed": 8}).sha256()


def test_overrides_win_over_the_file() -> None:
    settings = load_settings("laptop", {"loop.rounds": 3, "student.sandbox.timeout_s": 1})
    assert (settings.loop.rounds, settings.student.sandbox.timeout_s) == (3, 1.0)
    assert settings.loop.batch_groups == load_settings("laptop").loop.batch_groups


def test_a_file_builds_on_a_preset(tmp_path: Path) -> None:
    path = written(tmp_path, "extends: laptop\nname: mine\nloop: {rounds: 2}\n")
    settings = load_settings(path)
    assert (settings.name, settings.loop.rounds) == ("mine", 2)
    assert settings.loop.group_size == load_settings("laptop").loop.group_size


def test_a_file_builds_on_a_file_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "loop: {rounds: 4}\n", "base.yaml")
    assert load_settings(written(tmp_path, "extends: base.yaml\n")).loop.rounds == 4


def test_files_that_extend_one_another_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "extends: b.yaml\n", "a.yaml")
    path = written(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(SettingsError, match="extend one another in a circle"):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loop: {rouds: 2}", r"mine\.yaml: unknown key 'loop\.rouds'; did you mean 'rounds'\?"),
        ("colour: red", r"mine\.yaml: unknown key 'colour'; known keys: .*curriculum"),
        ("engine: {kind: transformers, max_bach: 1}", r"'engine.*max_bach'; did you mean 'max_batch'"),
        ("loop: {rounds: many}", r"mine\.yaml: loop\.rounds: .*integer.*found 'many'"),
        ("loop: {group_size: 1}", r"loop\.group_size: .*greater than or equal to 2, found 1"),
        ("engine: {kind: magic}", r"engine: .*'magic'.*'transformers'"),
        ("loop: {batch_groups: 9, max_groups_per_step: 3}", r"must be at least batch_groups"),
        ("student: {max_tokens_per_turn: 4000}", r"must be smaller than engine\.max_context"),
        ("engine: {kind: simulated}", r"a simulated engine needs trainer\.simulate_s"),
        ("- a\n- b", r"expected keys and values, found list"),
        ("loop: {rounds: [", r"mine\.yaml: line \d"),
        ("loop:\n  rounds: 1\n  rounds: 2\n", r"mine\.yaml: line 3: 'rounds' stands twice in one section"),
        ("data: {bridge: {endpoints: ['tcp://nowhere']}}", r"endpoints.*'tcp://nowhere' is no address"),
        ("data: {bridge: {endpoints: ['tcp://a:99999']}}", r"endpoints.*'tcp://a:99999' is no address"),
        ("data: {bridge: {endpoints: []}}", r"endpoints.*name at least one"),
        ("extends: 3", r"extends: expected the name of a preset or a file"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        load_settings(written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("laptp", r"unknown preset 'laptp'; did you mean 'laptop'\?"),
        ("zzz", r"unknown preset 'zzz'; presets: .*laptop"),
        ("missing.yaml", r"missing\.yaml: there is no such settings file"),
    ],
)
def test_what_cannot_be_found_is_named(name: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        load_settings(name)


@pytest.mark.parametrize("overrides", [{"loop.round": 3}, {"loop.rounds.more": 3}, {"student.copies": 0}])
def test_a_wrong_override_is_named(overrides: dict[str, YamlValue]) -> None:
    key = next(iter(overrides)).split(".")[0]
    with pytest.raises(SettingsError, match=key):
        load_settings("laptop", overrides)


def test_stored_settings_are_read_back_as_they_were(tmp_path: Path) -> None:
    settings = load_settings("laptop", {"seed": 11})
    path = tmp_path / "settings.json"
    path.write_text(settings.model_dump_json(), encoding="utf-8")
    assert read_stored(path) == settings
    with pytest.raises(SettingsError, match=r"nothing\.json: cannot be read"):
        read_stored(tmp_path / "nothing.json")


def test_a_client_waits_longer_than_the_store_does_for_an_outage() -> None:
    assert DataSettings().store.outage_s * 1000 < DataSettings().bridge.request_timeout_ms
    with pytest.raises(ValidationError, match=r"must be less than bridge\.request_timeout_ms"):
        DataSettings(store=StoreSettings(outage_s=30.0))


def test_adapters_by_the_store_need_the_data_plane_and_no_search() -> None:
    sums: dict[str, YamlValue] = {"curriculum.domains": ["math"]}
    by_store = load_settings("laptop", {"trainer.publish": "store", **sums})
    assert (needs_data_plane(by_store), by_store.searched_tags) == (True, ())
    assert not needs_data_plane(load_settings("laptop", sums))
    assert load_settings("3070ti").trainer.publish == "store"


def test_a_section_stands_for_itself() -> None:
    assert Settings().loop.group_size >= 2


@pytest.mark.parametrize(("domains", "needed"), [(["math"], False), (["math", "data"], True)])
def test_a_run_needs_the_data_plane_for_its_data_domain(domains: list[YamlValue], needed: bool) -> None:
    settings = load_settings("laptop", {"curriculum.domains": domains})
    assert needs_data_plane(settings) == needed
    assert not settings.searched_tags


def test_a_run_of_the_laptop_has_a_data_plane_of_its_own_unless_it_searches_stored_texts(
    tmp_path: Path,
) -> None:
    own = load_settings("laptop").data_for(tmp_path)
    assert Path(own.store.folder).is_relative_to(tmp_path)
    assert (own.store.kind, own.cache.kind) == ("embedded", "embedded")
    assert own.bridge.endpoints[0].endswith(":0")
    assert (own.store.max_gb, own.cache.memory_mb) == (1.0, 64)
    shared = load_settings("laptop").data
    assert (shared.store.max_gb, shared.cache.memory_mb) == (8.0, 512)
    searching = load_settings("laptop", {"student.retrieve.tags": ["docs"]})
    assert searching.data_for(tmp_path) == searching.data
    assert Settings().data_for(tmp_path) == Settings().data


def test_a_library_that_is_not_there_is_named() -> None:
    settings = load_settings("laptop-data", {"data.library": "attic"})
    with pytest.raises(SettingsError, match=r"data\.library: there is no folder 'attic'"):
        settings.data.locate_library()
