"""Export a trained Transformer of translation to CTranslate2, which serves it fast (`pip install 'seqlab[serve]'`).

seqlab export family=seq2seq_transformer strategy=full FOLDER [--int8]
"""

from __future__ import annotations

import os
from pathlib import Path

from seqlab.cli.places import ROOT
from seqlab.cli.translate import chosen, model_of
from seqlab.errors import UserError
from seqlab.evaluation.settings import PairEvaluation
from seqlab.families import loading
from seqlab.families.base import Use

INT8 = "--int8"


def export(arguments: list[str]) -> None:
    if any(word in ("-h", "--help") for word in arguments):
        print(__doc__)
        return
    folders = [Path(word).resolve() for word in arguments if "=" not in word and word != INT8]
    if len(folders) != 1:
        raise UserError(f"expected one folder to write, {INT8} if wanted, and overrides key=value")
    if folders[0].exists():
        raise UserError(f"{folders[0]}: it exists already; expected a new folder")
    os.chdir(ROOT)
    work = chosen([word for word in arguments if "=" in word])
    if not isinstance(work.domain.evaluate, PairEvaluation):
        raise UserError(f"domain {work.domain.name}: nothing to translate; expected a domain of pairs")
    system = loading.load(model_of(work), Use(work.settings, work.domain.evaluate.decoding))
    try:
        from seqlab.serving import ctranslate2
    except ImportError:
        raise UserError("ctranslate2 is not installed; pip install 'seqlab[serve]'") from None
    ctranslate2.export(system, folders[0], "int8" if INT8 in arguments else "float32")
