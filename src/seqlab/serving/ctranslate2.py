"""A Transformer as a CTranslate2 model: the fast way to serve it, in float32 or eight bits. Needs `seqlab[serve]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from seqlab.data.vocabulary import CONTROLS, END, START, TO_KOREAN, UNKNOWN
from seqlab.errors import UserError
from seqlab.families.seq2seq import Translator
from seqlab.families.seq2seq_transformer import ROTARY_BASE, Block, Seq2SeqTransformer

# Positions that CTranslate2 can hold: more than a piece of a source and its translation have.
LONGEST = 2048
# What CTranslate2 must be told not to write; see search.SILENT.
SUPPRESSED = [[name] for i, name in enumerate(CONTROLS) if i != END]


def export(translator: Translator, folder: Path, quantization: Literal["int8", "float32"]) -> None:
    """Write a CTranslate2 model to `folder`, which must not exist. Raises UserError when it is no Transformer."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec

    model = translator.model
    if not isinstance(model, Seq2SeqTransformer):
        raise UserError(f"CTranslate2 takes a seq2seq_transformer, found {type(model).__name__}")
    names = [translator.vocabulary.tokenizer.id_to_token(i) or f"<none-{i}>" for i in range(model.space.size)]
    sizes = {"rotary_dim": model.width // model.heads, "rotary_interleave": True, "rotary_base": ROTARY_BASE}
    spec = TransformerSpec(
        TransformerEncoderSpec(len(model.encoder), model.heads, qk_norm=True, **sizes),
        TransformerDecoderSpec(len(model.decoder), model.heads, qk_norm=True, **sizes),
    )
    embedding = array(model.embedding.weight)
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = embedding
    # Its encoder adds positions in any case, sinusoidal ones unless a table says otherwise.
    spec.encoder.position_encodings.encodings = np.zeros((LONGEST, model.width), np.float32)
    spec.decoder.projection.weight, spec.decoder.projection.bias = embedding, array(model.bias)
    normed(spec.encoder.layer_norm, model.encoder_norm)
    normed(spec.decoder.layer_norm, model.decoder_norm)
    for layer, encoding in zip(spec.encoder.layer, model.encoder, strict=True):
        shared(layer, encoding)
    for layer, block in zip(spec.decoder.layer, model.decoder, strict=True):
        shared(layer, block)
        del layer.attention.q_norm, layer.attention.k_norm  # attention to the source is not normalised
        normed(layer.attention.layer_norm, block.source_norm)
        source = ([block.source_q], [block.source_k, block.source_v], [block.source_mix])
        for part, own in zip(layer.attention.linear, source, strict=True):
            linear(part, *own)
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.unk_token, spec.config.eos_token = CONTROLS[UNKNOWN], CONTROLS[END]
    spec.config.bos_token = spec.config.decoder_start_token = CONTROLS[START]
    spec.validate()
    spec.optimize(None if quantization == "float32" else quantization)
    folder.mkdir(parents=True)
    spec.save(str(folder))


def shared(layer: Any, block: Block) -> None:
    """Self-attention and MLP."""
    from ctranslate2.specs.common_spec import LayerNormSpec

    normed(layer.self_attention.layer_norm, block.self_norm)
    linear(layer.self_attention.linear[0], block.self_q, block.self_k, block.self_v)
    linear(layer.self_attention.linear[1], block.self_mix)
    for name, module in (("q_norm", block.query_norm), ("k_norm", block.key_norm)):
        setattr(layer.self_attention, name, LayerNormSpec())  # in place of CTranslate2's default, a root mean square
        normed(getattr(layer.self_attention, name), module)
    normed(layer.ffn.layer_norm, block.mlp_norm)
    linear(layer.ffn.linear_0, block.up)
    linear(layer.ffn.linear_1, block.down)


def linear(spec: Any, *modules: nn.Linear) -> None:
    """Maps of one input, side by side."""
    spec.weight = array(torch.cat([module.weight for module in modules]))
    spec.bias = array(torch.cat([module.bias for module in modules]))


def normed(spec: Any, module: nn.LayerNorm) -> None:
    """A module without a bias has one of zeros."""
    bias = torch.zeros_like(module.weight) if module.bias is None else module.bias
    spec.gamma, spec.beta = array(module.weight), array(bias)


def array(tensor: torch.Tensor) -> np.ndarray:
    # A copy: quantisation works in place, and would reach the model itself.
    return tensor.detach().float().cpu().numpy().copy()


def translate(engine: Any, translator: Translator, texts: list[str]) -> list[str]:
    """By a `ctranslate2.Translator`, with the decoding of `translator`, for texts that need not be cut."""
    decoding, words = translator.decoding, translator.vocabulary
    sources = words.sources(texts, TO_KOREAN)
    name, numbers = words.tokenizer.id_to_token, words.tokenizer.get_vocab()
    found: list[str] = []
    for i in range(0, len(sources), decoding.batch):
        part = sources[i : i + decoding.batch]
        results = engine.translate_batch(
            [[name(j) for j in row] for row in part],
            beam_size=decoding.beam_size,
            patience=1 if decoding.patience is None else decoding.patience,
            length_penalty=decoding.length_penalty,
            # Without the END for which a limit has room.
            max_decoding_length=max(translator.limit(len(row)) for row in part) - 1,
            suppress_sequences=SUPPRESSED,
        )
        found += words.decode([[numbers[piece] for piece in one.hypotheses[0]] for one in results])
    return found
