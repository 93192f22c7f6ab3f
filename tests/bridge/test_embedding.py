"""Texts beyond what an embedder reads at once, with a small model of sentence-transformers made here."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from agentfactory.bridge.search import embedding
from agentfactory.bridge.search.embedding import SentenceEmbedder, TextTooLong
from agentfactory.cluster.serving.errors import MODEL_ERRORS, to_api_error

READS = 32
WORDS = [f"w{number}" for number in range(200)]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=READS,
    )
    BertModel(config).save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=READS)
    model = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    made = folder / "model"
    model.save(str(made))
    return SentenceEmbedder(str(made), local=True)


def test_what_stands_behind_the_first_window_counts(embedder: SentenceEmbedder) -> None:
    start = " ".join(WORDS[:100])
    one, other, same = embedder.embed(
        [f"{start} {'w150 ' * 60}", f"{start} {'w199 ' * 60}", f"{start} {'w150 ' * 60}"]
    )
    assert np.allclose(one, same, atol=1e-6)
    assert float(one @ other) < 0.999
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)


def test_a_text_has_the_same_vector_beside_longer_ones_and_alone(embedder: SentenceEmbedder) -> None:
    short = "w1 w2 w3"
    mixed = embedder.embed([short, " ".join(WORDS), short])
    assert np.allclose(mixed[0], embedder.embed([short])[0], atol=1e-5)
    assert np.allclose(mixed[0], mixed[2], atol=1e-6)


def test_a_long_text_is_the_mean_of_its_windows(embedder: SentenceEmbedder) -> None:
    size = READS - embedding._MARGIN
    windows = [" ".join(WORDS[at : at + size]) for at in range(0, 3 * size, size)]
    (whole,) = embedder.embed([" ".join(windows)])
    parts = embedder.embed(windows) * np.array([[len(window)] for window in windows])
    mean = parts.sum(axis=0)
    assert np.allclose(whole, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_text_without_end_is_refused_in_a_sentence(
    embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "MAX_WINDOWS", 2)
    with pytest.raises(TextTooLong, match="a text of 200 tokens is too long") as refused:
        embedder.embed(["w1", " ".join(WORDS)])
    assert to_api_error(refused.value, MODEL_ERRORS).status == 400


def test_no_texts_have_no_vectors(embedder: SentenceEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 32)
