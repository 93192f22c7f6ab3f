"""The context that a model is served with."""

import json
from argparse import Namespace
from pathlib import Path

import psutil
import pytest

from agentfactory.cli.servers import _plan
from agentfactory.cluster.serving import context_length as context
from agentfactory.cluster.serving.context_length import fit_context
from agentfactory.configs.models import (
    ROWS_AT_LEAST,
    SEED_MODEL,
    ModelSettings,
    SimulatedEngineSettings,
    TransformersEngineSettings,
    VllmEngineSettings,
)
from agentfactory.runtime.engines.batching.kv_cache import FIRST_ROWS

PER_TOKEN = 2 * 4 * 4 * 32 * 4
"""Of the seed model: keys and values of 4 layers, 4 heads of 32, four bytes each."""


def folder_with(tmp_path: Path, **changes: object) -> ModelSettings:
    config = json.loads((SEED_MODEL / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    return ModelSettings(source=str(tmp_path), device="cpu")


def free_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    there = psutil.virtual_memory()._replace(available=free)
    monkeypatch.setattr(context.psutil, "virtual_memory", lambda: there)


def test_a_model_has_its_own_context(tmp_path: Path) -> None:
    engine, told = fit_context(
        folder_with(tmp_path, max_position_embeddings=8192), TransformersEngineSettings()
    )
    assert engine.max_context == 8192  # type: ignore[union-attr]
    assert told == "context: 8192 tokens, the model's own"


def test_a_context_that_the_memory_does_not_hold_is_shortened_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = folder_with(tmp_path, max_position_embeddings=1 << 20)
    free_memory(monkeypatch, 2 * 1000 * FIRST_ROWS * PER_TOKEN)
    engine, told = fit_context(model, TransformersEngineSettings())
    assert engine.max_context == 1000  # type: ignore[union-attr]
    assert "1000 tokens, of the model's 1048576: what the memory here holds" in told
    (tmp_path / "model.safetensors").write_bytes(bytes(500 * 2 * FIRST_ROWS * PER_TOKEN))
    assert fit_context(model, TransformersEngineSettings())[0].max_context == 500  # type: ignore[union-attr]
    free_memory(monkeypatch, 0)
    assert fit_context(model, TransformersEngineSettings())[0].max_context == context.LEAST_TOKENS  # type: ignore[union-attr]


def test_vllm_on_the_processor_has_what_its_cache_holds(tmp_path: Path) -> None:
    model = folder_with(tmp_path, max_position_embeddings=1 << 20)
    engine, _ = fit_context(model, VllmEngineSettings(cpu_cache_gb=1))
    assert engine.max_context == (1 << 30) // PER_TOKEN  # type: ignore[union-attr]


def test_the_engines_rows_are_those_that_the_estimate_counts() -> None:
    assert ROWS_AT_LEAST == FIRST_ROWS


def test_a_model_that_does_not_say_its_context_has_the_engines(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4})
    )
    model = ModelSettings(source=str(tmp_path), device="cpu")
    engine, told = fit_context(model, TransformersEngineSettings())
    assert engine.max_context == 2048  # type: ignore[union-attr]
    assert "does not say" in told


def test_an_engine_without_a_model_has_no_context() -> None:
    engine = SimulatedEngineSettings()
    assert fit_context(ModelSettings(), engine) == (engine, "")


def options(**said: object) -> Namespace:
    given: dict[str, object] = dict.fromkeys(
        ("preset", "adapter", "model", "engine", "copies", "host", "port", "versions")
    )
    return Namespace(**{**given, "transport": "local", **said})


@pytest.mark.parametrize(
    ("said", "own"),
    [
        ({"model": "seed-data"}, True),
        ({}, False),
        ({"engine": "vllm"}, True),
        ({"preset": "laptop", "model": "seed-data"}, False),
        ({"preset": "laptop", "engine": "vllm"}, True),
    ],
)
def test_a_context_that_a_preset_says_wins(said: dict[str, object], own: bool) -> None:
    assert _plan(options(**said)).own_context is own


def test_a_preset_that_says_no_context_leaves_it_to_the_model(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("name: mine\nengine: {kind: transformers}\n")
    assert _plan(options(preset=str(preset))).own_context
    preset.write_text("name: mine\nengine: {kind: transformers, max_context: 1024}\n")
    assert not _plan(options(preset=str(preset))).own_context
