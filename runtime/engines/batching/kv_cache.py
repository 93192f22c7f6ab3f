"""Key-value cache: rows of token slots, in buckets of one length.

A sequence lives in the narrowest bucket that holds it and moves up when it outgrows it, so short
sequences never pay, in time or memory, for a long neighbour. A bucket without sequences releases its
memory, so the cache is as large as what is in flight needs, however many versions there are.
Within a bucket the rows, one for each sequence, lie as

    [ decoding … | joined this step … | parked … | free … ]
    0          decoding             active      len(rows)  capacity

so that the active rows are one slice of a tensor, and attention needs no gathering. Moving a row
is one copy of its used part for all layers at once.

Invariants: `bucket.rows[i].index == i`; a row's first `cached` columns hold its first `cached` tokens;
every store is finite everywhere (0 · NaN would leak from masked columns).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .base_model import LayerShape
from .sequence import SequenceState

FIRST_ROWS = 8
"""Rows of a new bucket; doubled whenever it is full."""
MAX_SPARE = 8
"""Stores kept for later buckets, the largest."""
MAX_TOO_LARGE = 4
"""A new bucket takes spare stores of at most so many times what it needs."""


class LayerIndex(NamedTuple):
    """Place of one layer's keys (or values): `stores[store][plane]`."""

    store: int
    plane: int


class KvCacheLayout:
    """The tensors that a bucket is made of. Layers of the same shape share one, so a row moves at once."""

    def __init__(self, layers: list[LayerShape], dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.shapes: list[tuple[int, int]] = []
        """(heads, dim) of each store."""
        self.depths: list[int] = []
        """Planes of each store."""
        self._spare: list[list[Tensor]] = []
        """Flat and finite, of any width, the smallest first."""
        self.keys = [self._place(layer.heads, layer.key_dim) for layer in layers]
        self.values = [self._place(layer.heads, layer.value_dim) for layer in layers]

    def _place(self, heads: int, dim: int) -> LayerIndex:
        if (heads, dim) not in self.shapes:
            self.shapes.append((heads, dim))
            self.depths.append(0)
        store = self.shapes.index((heads, dim))
        self.depths[store] += 1
        return LayerIndex(store, self.depths[store] - 1)

    def allocate(self, rows: int, width: int) -> list[Tensor]:
        """Finite stores for at least so many rows, each [planes, rows, heads, width, dim]."""
        sizes = [
            depth * heads * width * dim for depth, (heads, dim) in zip(self.depths, self.shapes, strict=True)
        ]
        flat = self._take_spare(rows, sizes) or [
            torch.zeros(rows * size, dtype=self.dtype, device=self.device) for size in sizes
        ]
        held = _rows_in(flat, sizes)
        return [
            store[: held * size].view(depth, held, heads, width, dim)
            for store, size, depth, (heads, dim) in zip(flat, sizes, self.depths, self.shapes, strict=True)
        ]

    def _take_spare(self, rows: int, sizes: list[int]) -> list[Tensor] | None:
        for place, spare in enumerate(self._spare):
            if rows <= _rows_in(spare, sizes) <= MAX_TOO_LARGE * rows:
                return self._spare.pop(place)  # by place: `remove` would compare tensors
        return None

    def release(self, stores: list[Tensor]) -> None:
        """Keep these for a later bucket: new versions come every step, and fresh memory is slow."""
        self._spare.append([_whole(store) for store in stores])
        self._spare.sort(key=lambda spare: spare[0].numel())
        del self._spare[:-MAX_SPARE]


def _rows_in(stores: list[Tensor], sizes: list[int]) -> int:
    """For how many rows of these sizes flat stores suffice."""
    return min(store.numel() // size for store, size in zip(stores, sizes, strict=True))


def _whole(store: Tensor) -> Tensor:
    """All that was allocated for a store, flat: a bucket's width may leave a rest."""
    size = store.untyped_storage().nbytes() // store.element_size()
    return store.as_strided((size,), (1,), 0)


class LengthBucket:
    """Cache rows of one width, each with its sequence."""

    def __init__(self, layout: KvCacheLayout, width: int) -> None:
        self.width = width
        self.rows: list[SequenceState] = []
        """Active rows, then parked ones."""
        self.active = 0
        self.decoding = 0
        """Active rows that were here before this step's rows joined."""
        self._layout = layout
        self._stores = layout.allocate(FIRST_ROWS, width)

    def keys(self, layer: int) -> Tensor:
        """[capacity, heads, width, dim]"""
        store, plane = self._layout.keys[layer]
        return self._stores[store][plane]

    def values(self, layer: int) -> Tensor:
        """[capacity, heads, width, dim]"""
        store, plane = self._layout.values[layer]
        return self._stores[store][plane]

    @property
    def _capacity(self) -> int:
        return self._stores[0].shape[1]

    def join(self, row: SequenceState, source: SequenceState | None = None) -> None:
        """Make `row` the last active one, with the cache of `source`: a row of another bucket, or itself."""
        self._reserve()
        if self.active < len(self.rows):  # a parked row is in the way
            self._move(self.active, len(self.rows))
        if source is not None:
            self._take_over(source)
        self._set(self.active, row)
        self.active += 1

    def wake(self, row: SequenceState, parked: SequenceState) -> None:
        """Make `row` the last active one, in the place and with the cache of `parked`."""
        self._swap(parked.index, self.active)
        self._set(self.active, row)
        parked.bucket = None
        self.active += 1

    def park(self, row: SequenceState) -> None:
        """Keep the cache of an active row that does not decode any more."""
        self._swap(row.index, self.active - 1)
        self.active -= 1

    def free(self, row: SequenceState) -> None:
        """Forget `row`, active or parked."""
        index, row.bucket = row.index, None
        self._close(index)

    def _close(self, hole: int) -> None:
        """Fill the hole that a row left with the last row of its kind."""
        if hole < self.active:
            self.active -= 1
            if hole != self.active:
                self._move(self.active, hole)
            hole = self.active
        if hole != len(self.rows) - 1:
            self._move(len(self.rows) - 1, hole)
        self.rows.pop()

    def release(self) -> None:
        """Return the memory to the layout; the bucket is not used any more."""
        self._layout.release(self._stores)

    def _reserve(self) -> None:
        capacity = self._capacity
        if len(self.rows) < capacity:
            return
        grown = self._layout.allocate(2 * capacity, self.width)
        for new, old in zip(grown, self._stores, strict=True):
            new[:, :capacity] = old
        self._stores = grown

    def _take_over(self, source: SequenceState) -> None:
        """Copy a row of another bucket into the slot at `active`, and close its hole there."""
        bucket, start = source.bucket, source.index
        assert isinstance(bucket, LengthBucket)
        assert bucket is not self
        self._copy_from(bucket, start, self.active, source.cached)
        source.bucket = None
        bucket._close(start)

    def _set(self, index: int, row: SequenceState) -> None:
        if index == len(self.rows):
            self.rows.append(row)
        else:
            self.rows[index] = row
        row.bucket, row.index = self, index

    def _move(self, start: int, end: int) -> None:
        row = self.rows[start]
        self._copy_from(self, start, end, row.cached)
        self._set(end, row)

    def _swap(self, first: int, second: int) -> None:
        if first == second:
            return
        one, other = self.rows[first], self.rows[second]
        length = max(one.cached, other.cached)
        for store in self._stores:
            kept = store[:, first, :, :length].clone()
            store[:, first, :, :length] = store[:, second, :, :length]
            store[:, second, :, :length] = kept
        self._set(first, other)
        self._set(second, one)

    def _copy_from(self, source: LengthBucket, start: int, end: int, length: int) -> None:
        for mine, theirs in zip(self._stores, source._stores, strict=True):
            mine[:, end, :, :length] = theirs[:, start, :, :length]
