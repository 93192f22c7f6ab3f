"""A run whose adapters go by the data plane: the engines fetch them, and the run's folder is enough."""

from pathlib import Path

import pytest

import agentfactory
from agentfactory.actors.coordinator.journal import read_journal
from agentfactory.cluster.data_plane.services import down, make_plan, up
from agentfactory.cluster.run_folder import JOURNAL
from agentfactory.configs.load import YamlValue, load_settings
from agentfactory.messages.adapters import AdapterPublished
from agentfactory.messages.runs import StepFinished
from tests.agentfactory.test_cli import TINY
from tests.cluster.test_data_plane import settings as data_settings


async def published(run: "agentfactory.Run", drain_after: int = 0) -> list[AdapterPublished]:
    """All versions that came into use until the run's end."""
    seen: list[AdapterPublished] = []
    async for event in run:
        if isinstance(event, AdapterPublished):
            seen.append(event)
            if len(seen) == drain_after:
                await run.drain()
    await run.result()
    return seen


@pytest.mark.slow
async def test_a_run_publishes_by_the_store_and_is_resumed_from_its_folder_alone(
    tmp_path: Path,
) -> None:
    overrides: dict[str, YamlValue] = {**TINY, "trainer.publish": "store", "runtime.transport": "local"}
    data = data_settings(tmp_path)
    chosen = load_settings("laptop", overrides).model_copy(update={"data": data})
    folder = tmp_path / "run"
    state = Path(data.folder)
    await up(make_plan(data, state), state)
    try:
        async with agentfactory.Factory.open(chosen) as factory:
            run = await factory.evolve(rounds=3, run_dir=folder)
            first = await published(run, drain_after=1)
            assert run.drained
            assert [blob.name async for blob in factory.list_blobs("adapters/*")] == []
        async with agentfactory.Factory.open(chosen) as factory:
            rest = await published(await factory.resume(folder))
            assert [blob.name async for blob in factory.list_blobs("adapters/*")] == []
    finally:
        await down(state)
    assert {event.adapter.tag for event in (*first, *rest)} == {first[0].adapter.tag}
    assert first[0].adapter.tag.startswith("adapters/run-")
    assert [event.adapter.version for event in rest][-2:] == [2, 3]
    steps = [entry for entry in read_journal(folder / JOURNAL) if isinstance(entry, StepFinished)]
    assert [step.adapter.version for step in steps] == [1, 2, 3]
    assert (folder / "adapters/student/v0003/adapter_model.safetensors").stat().st_size > 0
    async with agentfactory.Factory.open(chosen) as factory:  # nothing is up any more
        assert (await factory.solve("What is 2+3?", run_dir=folder)).turns
