"""Translation beside other libraries: training tokens/s (Hugging Face Marian, eole, JoeyNMT), and decoding sentences/s
with beam 5 (Marian, CTranslate2).

    python bench/translation.py data/prepared/translation [--steps N] [--sentences N] [--device cpu|cuda] [--part PART]

Peers that are not installed are left out (`pip install transformers ctranslate2 eole joeynmt`, best in an environment
of their own). One process, one thread, in turn, by seconds of CPU time; on a card, where decoding alone is compared, by
those that pass, the first run of each left out. Importing seqlab puts its own products in torch's place, which are lent
to none of the others. Training: equal sizes, batches and places of dropout, fused AdamW, each
precision against the same; target tokens, padding excluded. Decoding: the same weights for CTranslate2; for Marian,
whose layers are another model's, its own weights as initialised, and translations of a fixed length for all, so that
none ends earlier.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml

from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Sequences
from seqlab.data.text_pairs import TextPairs
from seqlab.data.vocabulary import END, PAD, START, TO_KOREAN, Vocabulary
from seqlab.families.gradient import products
from seqlab.families.gradient.device import claim
from seqlab.families.saved import Recipe
from seqlab.families.seq2seq import Seq2Seq, Translator
from seqlab.families.seq2seq.search import padded
from seqlab.heap import keep_freed
from seqlab.settings import Decoding
from seqlab.training.gradient.batches import Stream, TensorBatch

CONF = Path(__file__).parents[1] / "conf/family/seq2seq_transformer.yaml"
CPU = torch.device("cpu")


def clock(device: torch.device) -> float:
    """Seconds: of CPU time or, on a card, that have passed when all it was asked for is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def by_itself(name: str) -> Iterator[None]:
    """With torch's products as they are, but for seqlab."""
    suits = products.suits
    if name != "seqlab":
        products.suits = lambda *_: False
    try:
        yield
    finally:
        products.suits = suits


def ours(size: int) -> Seq2Seq:
    parameters = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    target = parameters.pop("_target_")
    del parameters["optimizer"]
    torch.manual_seed(0)
    model: Seq2Seq = Recipe(target, parameters, "gradient", "pairs", size, None).build()
    return model


def marian(size: int) -> Any:
    from transformers import MarianConfig, MarianMTModel

    p = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    return MarianMTModel(
        MarianConfig(
            vocab_size=size,
            decoder_vocab_size=size,
            d_model=p["hidden_size"],
            encoder_layers=p["layers"],
            decoder_layers=p["layers"],
            encoder_attention_heads=p["heads"],
            decoder_attention_heads=p["heads"],
            encoder_ffn_dim=p["feedforward_size"],
            decoder_ffn_dim=p["feedforward_size"],
            activation_function="relu",
            dropout=p["dropout"],
            attention_dropout=0.0,
            activation_dropout=0.0,
            scale_embedding=True,
            pad_token_id=PAD,
            eos_token_id=END,
            decoder_start_token_id=START,
            forced_eos_token_id=None,
            max_position_embeddings=512,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
        )
    )


def eole(size: int) -> Any:
    from eole.config.models import TransformerModelConfig
    from eole.constants import DefaultTokens
    from eole.models.model import EncoderDecoderModel

    p = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    config = TransformerModelConfig(
        layers=p["layers"],
        hidden_size=p["hidden_size"],
        heads=p["heads"],
        transformer_ff=p["feedforward_size"],
        word_vec_size=p["hidden_size"],
        share_embeddings=True,
        add_qkvbias=True,
        add_final_linear_bias=True,
        add_ffnbias=True,
        mlp_activation_fn="relu",
        embeddings={"word_vec_size": p["hidden_size"], "position_encoding_type": "SinusoidalInterleaved"},
    )
    running = SimpleNamespace(
        dropout=[p["dropout"]],
        attention_dropout=[0.0],
        self_attn_backend="pytorch",
        optim="adamw",
        parallel_gpu=1,
        parallel_mode="data_parallel",
        use_ckpting=[],
        compute_dtype=torch.float32,
    )
    words = {DefaultTokens.PAD: PAD} | {str(i): i for i in range(size) if i != PAD}
    vocabularies = {"src": words, "tgt": words, "specials": {"pad_token": DefaultTokens.PAD}}
    torch.manual_seed(0)
    model = EncoderDecoderModel.build_blocks(config, vocabularies, running_config=running)
    for name, part in model.named_modules():
        if name.endswith("dropout_1"):  # inside the MLP
            part.p = 0.0
    return model


def joey(size: int) -> Any:
    from joeynmt.model import build_model

    class Words:
        pad_index, bos_index, eos_index = PAD, START, END
        unk_index = sep_index = PAD  # that no loss reads
        specials: tuple[str, ...] = ()
        lang_tags: tuple[str, ...] = ()

        def __len__(self) -> int:
            return size

    p = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    words, width = Words(), p["hidden_size"]
    stack = {
        "type": "transformer",
        "num_layers": p["layers"],
        "num_heads": p["heads"],
        "embeddings": {"embedding_dim": width, "scale": True, "dropout": p["dropout"]},
        "hidden_size": width,
        "ff_size": p["feedforward_size"],
        "dropout": p["dropout"],
        "layer_norm": "pre",
    }
    torch.manual_seed(0)
    config = {"encoder": stack, "decoder": stack, "tied_embeddings": True, "tied_softmax": True}
    model = build_model(config, words, words)
    for name, part in model.named_modules():
        if name.endswith(("att.dropout", "pwff_layer.2")):  # of attention's weights, and inside the MLP
            part.p = 0.0
    return model


def our_loss(model: Seq2Seq, batch: TensorBatch) -> torch.Tensor:
    assert batch.source is not None
    return model.loss(batch.source, batch.x) / batch.mask.sum()


def shifted(batch: TensorBatch) -> torch.Tensor:
    return torch.cat([batch.x.new_full((len(batch.x), 1), START), batch.x[:, :-1]], 1)


def smoothed(logits: torch.Tensor, batch: TensorBatch) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), batch.x.flatten(), ignore_index=PAD, label_smoothing=0.1
    )


def marian_loss(model: Any, batch: TensorBatch) -> torch.Tensor:
    assert batch.source is not None
    mask = (batch.source != PAD).long()
    return smoothed(model(input_ids=batch.source, attention_mask=mask, decoder_input_ids=shifted(batch)).logits, batch)


def eole_loss(model: Any, batch: TensorBatch) -> torch.Tensor:
    assert batch.source is not None
    target = torch.cat([batch.x.new_full((len(batch.x), 1), START), batch.x], 1)
    found = model(batch.source, target, (batch.source != PAD).sum(1)).dec_out
    # eole's generator, which the trainer builds apart, tied to the embedding.
    return smoothed(torch.nn.functional.linear(found, model.tgt_emb.embeddings.weight), batch)


def joey_loss(model: Any, batch: TensorBatch) -> torch.Tensor:
    assert batch.source is not None
    mask, length = (batch.source != PAD)[:, None], (batch.source != PAD).sum(1)
    logits, *_ = model._encode_decode(
        src=batch.source,
        trg_input=shifted(batch),
        src_mask=mask,
        src_length=length,
        trg_mask=(batch.x != PAD)[:, None],
    )
    return smoothed(logits, batch)


def training(data: Pairs, size: int, tokens: int, steps: int) -> None:
    peers: dict[str, tuple[Any, Callable[[Any, TensorBatch], torch.Tensor]]] = {"seqlab": (ours(size), our_loss)}
    if importlib.util.find_spec("transformers"):
        peers["Marian"] = (marian(size), marian_loss)
    if importlib.util.find_spec("eole"):
        peers["eole"] = (eole(size), eole_loss)
    if importlib.util.find_spec("joeynmt"):
        peers["JoeyNMT"] = (joey(size), joey_loss)
    for model, _ in peers.values():
        model.train()
    batches = list(itertools.islice(Stream(data, tokens, seed=0), steps))
    count = sum(int(batch.mask.sum()) for batch in batches)
    optimizers = {name: torch.optim.AdamW(model.parameters(), 1e-4, fused=True) for name, (model, _) in peers.items()}
    for precision in ("fp32", "bf16"):
        seconds = dict.fromkeys(peers, 0.0)
        # Twice, the first time to warm up: kernels for bfloat16 are compiled for every new shape.
        for number, batch in enumerate(batches * 2):
            for name, (model, loss) in peers.items():
                with by_itself(name):
                    began = time.process_time()
                    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                        value = loss(model, batch)
                    value.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizers[name].step()
                    optimizers[name].zero_grad()
                    if number >= steps:
                        seconds[name] += time.process_time() - began
        show(f"training {precision}, target tokens/s of CPU time", {k: count / s for k, s in seconds.items()})


def decoding(data: Path, size: int, sentences: int, fixed: int, device: torch.device, bf16: bool) -> None:
    texts = TextPairs.load(data / "pairs/test.jsonl").sources[:sentences]
    words = Vocabulary.load(data)
    free = Decoding(5, 1.0, 1.0, 0.0, fixed, 64)
    translator = Translator(ours(size).eval().to(device), words, device, bf16, free)
    sources = words.sources(texts, TO_KOREAN)
    runs: dict[str, Callable[[], Any]] = {"seqlab": lambda: translator.search(sources)}
    if importlib.util.find_spec("transformers"):
        model = marian(size).eval().to(device, torch.bfloat16 if bf16 else torch.float32)
        order = sorted(sources, key=len)

        def generate() -> None:
            with torch.inference_mode():
                for i in range(0, len(order), free.batch):
                    batch = padded(order[i : i + free.batch], device)
                    model.generate(batch, attention_mask=(batch != PAD).long(), num_beams=5, max_new_tokens=fixed)

        runs["Marian generate"] = generate
    if importlib.util.find_spec("ctranslate2"):
        import ctranslate2

        from seqlab.serving.ctranslate2 import export, translate

        if device.type == "cpu" or ctranslate2.get_cuda_device_count():
            folder = Path(tempfile.mkdtemp()) / "model"
            export(translator, folder, "float32")
            kind = "bfloat16" if bf16 else "float32"
            engine = ctranslate2.Translator(str(folder), device=device.type, compute_type=kind, intra_threads=1)
            runs["CTranslate2"] = lambda: translate(engine, translator, texts)
    speeds = {}
    for name, run in runs.items():
        with by_itself(name):
            if device.type != "cpu":
                run()
            began = clock(device)
            run()
            speeds[name] = len(texts) / (clock(device) - began)
    kind = "CPU time" if device.type == "cpu" else torch.cuda.get_device_name(device)
    precision = "bf16" if bf16 else "fp32"
    show(f"decoding {precision}, beam 5, at most {fixed} symbols, sentences/s of {kind}", speeds)


def show(what: str, rates: dict[str, float]) -> None:
    print(f"\n{what}")
    for name, rate in rates.items():
        print(f"  {name:18} {rate:10.1f}   seqlab/{name} {rates['seqlab'] / rate:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--part", choices=("training", "decoding"), action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()  # as stages and commands do
    size, device = len(Vocabulary.load(arguments.prepared)), torch.device(arguments.device)
    parts = arguments.part or (["training", "decoding"] if device.type == "cpu" else ["decoding"])
    if "training" in parts:
        tokens = arguments.prepared / "tokens/train"
        data = Pairs(Sequences.load(tokens / "source"), Sequences.load(tokens / "target"))
        training(data, size, arguments.tokens, arguments.steps)
    if "decoding" in parts:
        if device.type != "cpu":
            claim(device)
        for bf16 in (False,) if device.type == "cpu" else (False, True):
            decoding(arguments.prepared, size, arguments.sentences, 20, device, bf16)


if __name__ == "__main__":
    main()
