"""Batch of one forward pass: all active sequences of a runner, packed without padding.

The tokens of all rows lie one after another in a batch of one: first a bucket's decoding rows with a
token each, then the rows that joined with the rest of their prompts (prefill), then the next bucket.
Linear layers see [1, N]; only attention looks at rows, bucket by bucket.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from .kv_cache import LengthBucket
from .sequence import SequenceState

_COLUMNS = 8
"""Attention reads columns up to the longest row of the bucket, rounded up to this many."""


class ForwardBatch:
    """Inputs of one forward pass; the model's attention gets it as `packed`."""

    def __init__(self, buckets: list[LengthBucket], device: torch.device) -> None:
        self.buckets = [bucket for bucket in buckets if bucket.active]
        self.rows = [row for bucket in self.buckets for row in bucket.rows[: bucket.active]]
        """In the order of the logits."""
        counts = [len(row.tokens) - row.cached for row in self.rows]
        tokens = [row.tokens[row.cached :] for row in self.rows]
        self.input_ids = torch.tensor(list(chain.from_iterable(tokens)), device=device)
        positions = [range(row.cached, len(row.tokens)) for row in self.rows]
        self.positions = torch.tensor(list(chain.from_iterable(positions)), device=device)
        ends = torch.tensor(counts, device=device).cumsum(0)
        self.last = ends - 1
        """Index of each row's last token in the pack: where its next token is predicted."""
        self._parts: list[_BucketBatch] = []
        row, token = 0, 0
        for bucket in self.buckets:
            mine = counts[row : row + bucket.active]
            self._parts.append(_BucketBatch(bucket, mine, token, self.positions))
            row, token = row + bucket.active, token + sum(mine)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See `base_model.PackedAttention`."""
        outs = [part.attend(layer, query, key, value, scaling, window) for part in self._parts]
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def finish(self) -> None:
        """Mark everything that was fed as cached, after the pass."""
        for row in self.rows:
            row.cached = len(row.tokens)


class _BucketBatch:
    """One bucket's share of the batch: its slice of the packed tokens, and its two kinds of rows."""

    def __init__(self, bucket: LengthBucket, counts: list[int], start: int, positions: Tensor) -> None:
        self._bucket = bucket
        device = positions.device
        self._tokens = slice(start, start + sum(counts))
        self._positions = positions[self._tokens]  # [Nb]
        one_each = len(self._positions) == bucket.active
        rows = torch.arange(bucket.active, device=device)
        self._rows = rows if one_each else rows.repeat_interleave(torch.tensor(counts, device=device))  # [Nb]
        longest = max(row.cached + count for row, count in zip(bucket.rows, counts, strict=False))
        self._width = min(bucket.width, -(-longest // _COLUMNS) * _COLUMNS)
        self._decoding = bucket.decoding
        self._joined = bucket.active - bucket.decoding
        self._masks: dict[tuple[int | None, int], Tensor] = {}
        if self._joined:
            self._plan_joined(counts[bucket.decoding :])

    def _plan_joined(self, counts: list[int]) -> None:
        """Joined rows attend as a block padded to the longest, [rows, queries]."""
        device = self._positions.device
        self._queries = max(counts)
        row = self._rows[self._decoding :] - self._decoding
        first = self._positions[self._decoding :].new_tensor(
            [bucket_row.cached for bucket_row in self._new()]
        )
        self._place = row * self._queries + self._positions[self._decoding :] - first[row]
        """Index of each joined token in the padded block, flattened."""
        self._fresh = all(bucket_row.cached == 0 for bucket_row in self._new())
        self._query_positions = first.unsqueeze(1) + torch.arange(self._queries, device=device)

    def _new(self) -> list[SequenceState]:
        return self._bucket.rows[self._decoding : self._bucket.active]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attention of this bucket's tokens, [Nb, heads, d]."""
        keys, values = self._bucket.keys(layer), self._bucket.values(layer)
        keys[self._rows, :, self._positions] = key[self._tokens]
        values[self._rows, :, self._positions] = value[self._tokens]
        query = query[self._tokens]
        outs: list[Tensor] = []
        if self._decoding:
            outs.append(self._decode(query[: self._decoding], keys, values, scaling, window))
        if self._joined:
            outs.append(self._prefill(query[self._decoding :], keys, values, scaling, window))
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _decode(
        self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """One query for each row. Two batched products beat fused attention here, on any device."""
        n, heads, dim = query.shape
        kv_heads = keys.shape[1]
        columns = keys[:n, :, : self._width].flatten(0, 1)  # [n·kv, W, d], a view
        content = values[:n, :, : self._width].flatten(0, 1)
        grouped = query.reshape(n * kv_heads, heads // kv_heads, dim)
        mask = self._decode_mask(window, kv_heads, query.dtype)
        scores = torch.baddbmm(mask, grouped, columns.transpose(1, 2), alpha=scaling)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        return torch.bmm(weights, content).view(n, heads, -1)

    def _prefill(
        self, query: Tensor, keys: Tensor, values: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Several queries for each joined row, as a padded block."""
        rows = slice(self._decoding, self._decoding + self._joined)
        heads, dim = query.shape[1:]
        block = query.new_zeros(self._joined * self._queries, heads, dim)
        block[self._place] = query
        block = block.view(self._joined, self._queries, heads, dim).transpose(1, 2)
        causal = self._fresh and window is None
        width = self._queries if causal else self._width
        groups = heads // keys.shape[1]
        out = functional.scaled_dot_product_attention(
            block,
            keys[rows, :, :width].repeat_interleave(groups, 1) if groups > 1 else keys[rows, :, :width],
            values[rows, :, :width].repeat_interleave(groups, 1) if groups > 1 else values[rows, :, :width],
            attn_mask=None if causal else self._prefill_mask(window),
            is_causal=causal,
            scale=scaling,
        )
        return out.transpose(1, 2).reshape(self._joined * self._queries, heads, -1)[self._place]

    def _decode_mask(self, window: int | None, kv_heads: int, dtype: torch.dtype) -> Tensor:
        """0 where the row's newest token may look, −inf elsewhere: [n·kv, 1, W]."""
        known = self._masks.get((window, kv_heads))
        if known is None:
            seen = self._sees(self._positions[: self._decoding].unsqueeze(1), window)  # [n, W]
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            known = mask.repeat_interleave(kv_heads, 0).unsqueeze(1)
            self._masks[(window, kv_heads)] = known
        return known

    def _prefill_mask(self, window: int | None) -> Tensor:
        """Columns that each query attends to: [rows, 1, queries, W]."""
        known = self._masks.get((window, 0))
        if known is None:
            known = self._sees(self._query_positions.unsqueeze(2), window).unsqueeze(1)
            self._masks[(window, 0)] = known
        return known

    def _sees(self, positions: Tensor, window: int | None) -> Tensor:
        columns = torch.arange(self._width, device=positions.device)
        seen = columns <= positions
        return seen if window is None else seen & (columns > positions - window)
