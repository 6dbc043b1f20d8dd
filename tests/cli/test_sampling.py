"""How the next token is chosen, and what tokens stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqc.errors import UserError
from seqc.sampling import Sampling
from seqc.vocabulary import Bytes, Pieces

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.4, 0.05], np.float32))


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        (Sampling(), [0, 1, 0, 0, 0]),
        (Sampling(1.0), [0.1, 0.4, 0.05, 0.4, 0.05]),
        (Sampling(0.5), [0.01 / 0.335, 0.16 / 0.335, 0.0025 / 0.335, 0.16 / 0.335, 0.0025 / 0.335]),
        (Sampling(1.0, top_k=2), [0, 0.5, 0, 0.5, 0]),
        (Sampling(1.0, top_k=1), [0, 1, 0, 0, 0]),
        (Sampling(1.0, top_k=99), [0.1, 0.4, 0.05, 0.4, 0.05]),
        (Sampling(1.0, top_p=0.85), [0.1 / 0.9, 0.4 / 0.9, 0, 0.4 / 0.9, 0]),
        (Sampling(1.0, top_p=0.0), [0, 1, 0, 0, 0]),
        (Sampling(1.0, top_p=1e-9), [0, 1, 0, 0, 0]),
        (Sampling(1.0, top_k=3, top_p=0.5), [0, 0.5, 0, 0.5, 0]),
    ],
)
def test_probabilities(sampling: Sampling, wanted: list[float]) -> None:
    np.testing.assert_allclose(sampling.probabilities(LOGITS), wanted, rtol=1e-6)


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    choose, again = (Sampling(1.0).chooser(seed=3) for _ in range(2))
    drawn = [choose(LOGITS) for _ in range(4_000)]
    assert drawn == [again(LOGITS) for _ in range(4_000)]
    counts = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(counts, np.exp(LOGITS), atol=0.03)


def test_large_logits_do_not_overflow_and_others_are_refused() -> None:
    np.testing.assert_allclose(Sampling(1.0).probabilities(np.array([9e4, 9e4])), [0.5, 0.5])
    with pytest.raises(UserError, match="not finite"):
        Sampling(1.0).probabilities(np.array([0.0, np.nan]))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["def main(): return naïve"] * 4, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("text", ["def main(): return", "naïve – ∂x/∂t", "  spaces  "])
def test_pieces_and_bytes_give_the_text_back(file: Path, text: str) -> None:
    for words in (Bytes(), Pieces(file)):
        decode = words.decoder()
        assert b"".join(decode(token) for token in words.encode(text)).decode() == text


def test_pieces_are_longer_than_bytes(file: Path) -> None:
    assert len(Pieces(file).encode("def main")) < len("def main")


def test_a_model_that_knows_fewer_tokens_is_refused(file: Path) -> None:
    pieces = Pieces(file)
    pieces.check(pieces.encode("return"), 300)
    with pytest.raises(UserError, match="another model's"):
        pieces.check(pieces.encode("return"), 8)
    with pytest.raises(UserError, match="no model of bytes") as caught:
        Bytes().check([1], 300)
    assert "--tokenizer" in str(caught.value.help)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        Pieces(tmp_path / "nothing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer file"):
        Pieces(tmp_path / "bad.json")
