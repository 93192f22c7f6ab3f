"""A lane: one adapter version's weights, and the sequences that run on them.

The adapter is merged into copies of the weights it targets; everything else is shared with the
base. So decoding costs nothing extra, which is what counts for small models, where a step is
bound by the number of operations. A lane costs a copy of the targeted weights, and every lane
with active rows its own forward pass. For big models vLLM takes over, which keeps adapters apart and
mixes them within one batch.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from transformers import PreTrainedModel

from .row import Row
from .sampling import Sampled, sample
from .slots import Band, Layout
from .step import Step


class Lane:
    """Rows decoded together under one version of the weights."""

    def __init__(self, sha256: str, model: PreTrainedModel, layout: Layout, max_context: int) -> None:
        self.sha256 = sha256
        self.users = 0
        """Requests queued or active: the lane may go when it is closing and there are none."""
        self.closing = False
        self._model = model
        self._layout = layout
        self._max_context = max_context
        self._bands: dict[int, Band] = {}

    @property
    def active(self) -> int:
        """Rows that decode."""
        return sum(band.active for band in self._bands.values())

    def join(self, row: Row, parked: Row | None = None) -> None:
        """Let `row` take part from the next step on, with the cache of `parked` if it continues one."""
        band = self._band_for(len(row.tokens))
        if parked is not None:
            row.cached = row.reused = parked.cached
        if parked is not None and parked.band is band:
            band.wake(row, parked)
        else:
            band.join(row, parked)

    def begin_step(self) -> None:
        """Move rows that have outgrown their band. Call once before each step, before rows join it.

        A band that is left without a row goes.
        """
        for band in list(self._bands.values()):
            for row in [row for row in band.rows[: band.active] if len(row.tokens) > band.width]:
                self._band_for(len(row.tokens)).join(row, row)
        for width in [width for width, band in self._bands.items() if not band.rows]:
            self._bands.pop(width).give_back()
        for band in self._bands.values():
            band.decoding = band.active

    def give_back(self) -> None:
        """The lane is not used any more; the next one may have its slots."""
        for band in self._bands.values():
            band.give_back()

    def step(self) -> Iterable[tuple[Row, int]]:
        """Feed every active row's new tokens and sample one more; yields each row and its new token."""
        step = Step(list(self._bands.values()), self._model.device)
        logits = self._model(
            input_ids=step.input_ids.unsqueeze(0),
            position_ids=step.positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=step.last,
            slots=step,
        ).logits[0]
        step.finish()
        sampled = _sample(logits, step.rows)
        for row, token, logprob in zip(step.rows, sampled.tokens, sampled.logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
        return zip(step.rows, sampled.tokens, strict=True)

    def _band_for(self, length: int) -> Band:
        width = _width_for(length, self._max_context)
        if width not in self._bands:
            self._bands[width] = Band(self._layout, width)
        return self._bands[width]


def _sample(logits: Tensor, rows: list[Row]) -> Sampled:
    return sample(
        logits,
        [row.request.sampling for row in rows],
        [row.seed for row in rows],
        [len(row.logprobs) for row in rows],
    )


def _width_for(length: int, limit: int) -> int:
    """The narrowest of 64, 96, 128, 192, 256, 384, … that holds `length`, and at most `limit`."""
    width = 64
    while width < length:
        width = width * 3 // 2 if width & (width - 1) == 0 else width * 4 // 3
    return min(width, limit)
