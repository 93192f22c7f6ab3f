"""The key-value cache of the transformers engine is as large as what is in flight, whatever came before."""

import asyncio
from collections.abc import Iterator

import pytest
import torch

from agentfactory.messages.generation import Completion, Generate
from agentfactory.runtime.engines.batching.adapter_runner import AdapterRunner
from agentfactory.runtime.engines.batching.base_model import LayerShape
from agentfactory.runtime.engines.batching.kv_cache import FIRST_ROWS, MAX_SPARE, KvCacheLayout, LengthBucket
from agentfactory.runtime.engines.batching.sequence import SequenceState
from tests.runtime.small_model import request

LAYERS = [LayerShape(heads=2, key_dim=4, value_dim=6)] * 3
BYTES = 3 * 2 * (4 + 6) * 4
"""Of one token."""


@pytest.fixture
def layout() -> KvCacheLayout:
    return KvCacheLayout(LAYERS, torch.float32, torch.device("cpu"))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def row_of(length: int, loop: asyncio.AbstractEventLoop) -> SequenceState:
    asked: Generate = request("x", max_tokens=1).model_copy(update={"prompt_ids": (1,) * length})
    answer: asyncio.Future[Completion] = loop.create_future()
    return SequenceState.of(asked, answer)


def runner_of(layout: KvCacheLayout) -> AdapterRunner:
    return AdapterRunner("", torch.nn.Module(), layout, max_context=512)  # type: ignore[arg-type]  # it makes no step


def addresses(stores: list[torch.Tensor]) -> set[int]:
    return {store.untyped_storage().data_ptr() for store in stores}


def test_an_idle_version_holds_no_cache_and_the_next_one_uses_its_memory(
    layout: KvCacheLayout, loop: asyncio.AbstractEventLoop
) -> None:
    seen = set()
    for _ in range(20):
        runner = runner_of(layout)
        rows = [row_of(60, loop) for _ in range(3 * FIRST_ROWS)]
        for row in rows:
            runner.join(row)
        bucket = rows[0].bucket
        assert isinstance(bucket, LengthBucket)
        seen |= addresses(bucket._stores)
        for row in rows:
            bucket.free(row)
        runner.begin_step()
        assert runner._buckets == {}
    assert len(seen) <= 2 * len(layout.shapes)  # as many as one version needs: its first and its last
    assert len(layout._spare) <= 2


def test_a_bucket_that_rows_have_left_for_a_wider_one_goes(
    layout: KvCacheLayout, loop: asyncio.AbstractEventLoop
) -> None:
    runner, row = runner_of(layout), row_of(60, loop)
    runner.join(row)
    row.tokens += [1] * 10
    runner.begin_step()
    assert list(runner._buckets) == [96]
    assert runner._buckets[96].rows == [row]


def test_a_bucket_with_a_row_that_is_kept_between_turns_stays(
    layout: KvCacheLayout, loop: asyncio.AbstractEventLoop
) -> None:
    runner, row = runner_of(layout), row_of(60, loop)
    runner.join(row)
    runner._buckets[64].park(row)
    runner.begin_step()
    assert runner._buckets[64].rows == [row]


def test_spare_memory_serves_buckets_of_another_width(layout: KvCacheLayout) -> None:
    first = layout.allocate(8, 64)
    where = addresses(first)
    layout.release(first)
    second = layout.allocate(8, 32)
    assert addresses(second) == where
    assert [tuple(store.shape) for store in second] == [(3, 16, 2, 32, 4), (3, 16, 2, 32, 6)]
    layout.release(second)
    third = layout.allocate(5, 96)  # 8 · 64 columns hold five rows of 96, with a rest
    assert addresses(third) == where
    assert [store.shape[1] for store in third] == [5, 5]
    layout.release(third)
    assert addresses(layout.allocate(8, 64)) == where  # the rest was not lost


def test_a_small_bucket_takes_no_large_memory(layout: KvCacheLayout) -> None:
    large = layout.allocate(256, 64)
    where = addresses(large)
    layout.release(large)
    assert not addresses(layout.allocate(8, 64)) & where
    assert addresses(layout.allocate(128, 64)) == where


def test_only_the_largest_spare_memory_is_kept(layout: KvCacheLayout) -> None:
    stores = [layout.allocate(8, 64 + 8 * number) for number in range(2 * MAX_SPARE)]
    for each in stores:
        layout.release(each)
    kept = [sum(store.nbytes for store in spare) for spare in layout._spare]
    assert kept == [8 * (64 + 8 * number) * BYTES for number in range(MAX_SPARE, 2 * MAX_SPARE)]


def test_a_bucket_on_reused_memory_grows_with_what_it_holds(
    layout: KvCacheLayout, loop: asyncio.AbstractEventLoop
) -> None:
    layout.release(layout.allocate(11, 48))
    bucket = LengthBucket(layout, 64)
    for number in range(40):
        row = row_of(10, loop)
        row.cached = 10
        bucket.join(row)
        bucket.keys(2)[number, :, :10] = number
        bucket.values(2)[number, :, :10] = -number
    for number in range(40):
        assert (bucket.keys(2)[number, :, :10] == number).all()
        assert (bucket.values(2)[number, :, :10] == -number).all()
