"""Runner of one adapter version: its weights, and the sequences that decode on them.

The adapter is merged into copies of the weights it targets; everything else is shared with the
base. So decoding costs nothing extra, which is what counts for small models, where a step is
bound by the number of operations. A runner costs a copy of the targeted weights, and every runner
with active sequences its own forward pass. For big models vLLM takes over, which keeps adapters apart
and mixes them within one batch.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from transformers import PreTrainedModel

from .forward_batch import ForwardBatch
from .kv_cache import KvCacheLayout, LengthBucket
from .sampling import SampledTokens, sample
from .sequence import SequenceState


class AdapterRunner:
    """Sequences decoded together under one version of the weights."""

    def __init__(self, sha256: str, model: PreTrainedModel, layout: KvCacheLayout, max_context: int) -> None:
        self.sha256 = sha256
        self.refcount = 0
        """Requests queued or active: a draining runner is dropped at zero."""
        self.draining = False
        self._model = model
        self._layout = layout
        self._max_context = max_context
        self._buckets: dict[int, LengthBucket] = {}

    @property
    def active(self) -> int:
        """Number of sequences that decode."""
        return sum(bucket.active for bucket in self._buckets.values())

    def join(self, sequence: SequenceState, parked: SequenceState | None = None) -> None:
        """Let `sequence` take part from the next step on, with the cache of `parked` if it continues one."""
        bucket = self._bucket_for(len(sequence.tokens))
        if parked is not None:
            sequence.cached = sequence.reused = parked.cached
        if parked is not None and parked.bucket is bucket:
            bucket.wake(sequence, parked)
        else:
            bucket.join(sequence, parked)

    def begin_step(self) -> None:
        """Move sequences that have outgrown their bucket. Call once before each step, before any joins.

        Empty buckets are released.
        """
        for bucket in list(self._buckets.values()):
            for sequence in [
                sequence for sequence in bucket.rows[: bucket.active] if len(sequence.tokens) > bucket.width
            ]:
                self._bucket_for(len(sequence.tokens)).join(sequence, sequence)
        for width in [width for width, bucket in self._buckets.items() if not bucket.rows]:
            self._buckets.pop(width).release()
        for bucket in self._buckets.values():
            bucket.decoding = bucket.active

    def release(self) -> None:
        """Return the buckets' memory for the next runner."""
        for bucket in self._buckets.values():
            bucket.release()

    def step(self) -> Iterable[tuple[SequenceState, int]]:
        """Feed every active sequence's new tokens and sample one more; yields each with its new token."""
        step = ForwardBatch(list(self._buckets.values()), self._model.device)
        logits = self._model(
            input_ids=step.input_ids.unsqueeze(0),
            position_ids=step.positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=step.last,
            packed=step,
        ).logits[0]
        step.finish()
        sampled = _sample(logits, step.rows)
        for sequence, token, logprob in zip(step.rows, sampled.tokens, sampled.logprobs, strict=True):
            sequence.tokens.append(token)
            sequence.logprobs.append(logprob)
        return zip(step.rows, sampled.tokens, strict=True)

    def _bucket_for(self, length: int) -> LengthBucket:
        width = _width_for(length, self._max_context)
        if width not in self._buckets:
            self._buckets[width] = LengthBucket(self._layout, width)
        return self._buckets[width]


def _sample(logits: Tensor, rows: list[SequenceState]) -> SampledTokens:
    return sample(
        logits,
        [sequence.request.sampling for sequence in rows],
        [sequence.seed for sequence in rows],
        [len(sequence.logprobs) for sequence in rows],
    )


def _width_for(length: int, limit: int) -> int:
    """The narrowest of 64, 96, 128, 192, 256, 384, … that holds `length`, and at most `limit`."""
    width = 64
    while width < length:
        width = width * 3 // 2 if width & (width - 1) == 0 else width * 4 // 3
    return min(width, limit)
