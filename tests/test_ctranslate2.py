"""The exported Transformer writes what its original writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ctranslate2
import pytest
from test_translator import train, write

from seqlab.data.text_pairs import TextPairs
from seqlab.errors import UserError
from seqlab.families.seq2seq import Translator
from seqlab.serving.ctranslate2 import export, translate
from seqlab.settings import Decoding

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Translator, list[str]]:
    folder = tmp_path_factory.mktemp("numbers")
    prepared = write(folder / "prepared")
    sources = TextPairs.load(prepared / "pairs/test.jsonl").sources
    # Beyond what was trained on as well, where scores lie close together.
    return train(prepared, folder / "model", "seq2seq_transformer"), [*sources, "one 龍 one", "two " * 12]


@pytest.mark.parametrize(("beam", "penalty"), [(1, 1.0), (4, 0.0), (4, 1.0), (8, 0.6)])
def test_float32_output_is_equal(
    trained: tuple[Translator, list[str]], tmp_path: Path, beam: int, penalty: float
) -> None:
    translator, texts = trained
    translator = replace(translator, decoding=Decoding(beam, penalty, 1.0, 2.0, 10, 16))
    export(translator, tmp_path / "model", "float32")
    engine = ctranslate2.Translator(str(tmp_path / "model"), compute_type="float32", intra_threads=1)
    assert translate(engine, translator, texts) == translator.translate(texts)


def test_eight_bits_are_close(trained: tuple[Translator, list[str]], tmp_path: Path) -> None:
    translator, texts = trained
    export(translator, tmp_path / "model", "int8")
    engine = ctranslate2.Translator(str(tmp_path / "model"), compute_type="int8", intra_threads=1)
    made = zip(translate(engine, translator, texts), translator.translate(texts), strict=True)
    assert sum(one == other for one, other in made) > 0.8 * len(texts)


def test_only_a_transformer_can_be_exported(tmp_path: Path) -> None:
    prepared = write(tmp_path / "prepared")
    other = train(prepared, tmp_path / "model", "seq2seq_rnn")
    with pytest.raises(UserError, match="seq2seq_transformer, found Seq2SeqRNN"):
        export(other, tmp_path / "out", "float32")
