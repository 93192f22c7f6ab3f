"""What is refused before a run starts, and what a run that never began leaves: nothing."""

import socket
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

import agentfactory.cluster.preflight as preflight
from agentfactory.cluster.preflight import check_model, check_run
from agentfactory.cluster.run_folder import JOURNAL, check_resumable, create_run_folder
from agentfactory.configs.base_config import with_absolute_places
from agentfactory.configs.errors import AgentFactoryError, BadInput
from agentfactory.configs.load import load_settings
from agentfactory.configs.models import ModelSettings, TransformersEngineSettings, VllmEngineSettings
from agentfactory.factory import Factory

ENGINE = TransformersEngineSettings()
NAME = "nobody/such-a-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty cache, and a hub that the test sets up."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


async def test_a_hub_that_cannot_be_reached_is_one_sentence(hub: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hub.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(BadInput, match=f"model.source: '{NAME}': the hub cannot be reached"):
        await check_model(ModelSettings(source=NAME), ENGINE)


async def test_a_hub_that_says_nothing_has_a_limit(hub: pytest.MonkeyPatch) -> None:
    hub.setattr(preflight, "HUB_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BadInput, match=r"the hub (does not answer within|cannot be reached)"):
            await check_model(ModelSettings(source=NAME), ENGINE)


async def test_offline_only_what_lies_in_the_cache_is_taken(hub: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE forbids to get it"):
        await check_model(ModelSettings(source=NAME), ENGINE)
    cached = tmp_path / "cache" / "models--nobody--such-a-model"
    (cached / "snapshots" / "abc").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (cached / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    await check_model(ModelSettings(source=NAME), ENGINE)


async def test_a_name_that_no_hub_can_have_is_refused() -> None:
    with pytest.raises(BadInput, match="neither a folder nor a name that the hub can have"):
        await check_model(ModelSettings(source="a b/c"), ENGINE)


@pytest.mark.parametrize("settings", [{"device": "cuda"}, {"quantize": "nf4"}])
async def test_what_needs_a_gpu_is_refused_without_one(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    model = ModelSettings.model_validate(settings)
    with pytest.raises(BadInput, match="needs a GPU, and this machine has none"):
        await check_model(model, ENGINE)
    await check_model(model, ENGINE, joins=True)  # the cluster's machines have theirs


async def test_an_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr(preflight, "_installed", lambda package: False)
    with pytest.raises(BadInput, match=r"vLLM is not installed; pip install 'agentfactory\[vllm\]'"):
        await check_model(ModelSettings(), VllmEngineSettings())


async def test_the_domains_of_reward_terms_exist() -> None:
    terms: list[object] = [{"kind": "correctness", "domains": ["math", "mth"]}]
    with pytest.raises(BadInput, match=r"rewards\.terms\.0\.domains: unknown domain 'mth'"):
        await check_run(load_settings("laptop", {"rewards.terms": terms}), joins=False)  # type: ignore[dict-item]


async def test_a_run_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    changes = {"trainer.lora.target_modules": ["nope"], "runtime.max_restarts": 0}
    folder = tmp_path / "a" / "b" / "run"
    with pytest.raises(AgentFactoryError):
        async with Factory.open("laptop", transport="local", overrides=changes) as factory:  # type: ignore[arg-type]
            await factory.evolve(run_dir=folder)
    assert list(tmp_path.iterdir()) == []


def test_what_was_in_a_folder_before_stays_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    new = create_run_folder(load_settings("laptop"), tmp_path)
    (tmp_path / "trajectories").mkdir()
    new.discard_unless_begun()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_run_that_began_stays(tmp_path: Path) -> None:
    new = create_run_folder(load_settings("laptop"), tmp_path / "run")
    (new.folder / JOURNAL).write_text("{}\n")
    new.discard_unless_begun()
    assert (new.folder / JOURNAL).exists()


def test_a_run_that_was_killed_before_it_began_may_be_resumed(tmp_path: Path) -> None:
    folder = create_run_folder(load_settings("laptop"), tmp_path / "run").folder
    (folder / "trajectories").mkdir()
    (folder / "trajectories" / "trajectories-00001.jsonl").touch()
    check_resumable(folder)
    (folder / "trajectories" / "trajectories-00001.jsonl").write_text("{}\n")
    with pytest.raises(BadInput, match=f"{JOURNAL} is missing, although there are trajectories"):
        check_resumable(folder)


def test_places_are_stored_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "seed", "ngrams"):
        (tmp_path / name).mkdir()
    changes = {"model.source": "./model", "data.uris.roots": [".", "~"], "student.toolbox.rules": "r.yaml"}
    settings = with_absolute_places(load_settings("laptop", changes))  # type: ignore[arg-type]
    assert settings.model.source == str(tmp_path / "model")
    assert settings.data.uris.roots == (str(tmp_path), str(Path.home()))
    assert settings.student.toolbox.rules == str(tmp_path / "r.yaml")
    assert settings.teacher.novelty.embedder == "ngrams"
    assert with_absolute_places(load_settings("laptop")).model.source == "seed"
    assert settings.data.library == ""
    assert with_absolute_places(settings) == settings
