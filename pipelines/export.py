"""Export a trained Transformer of translation to CTranslate2, which serves it fast (`pip install 'seqlab[serve]'`).

python pipelines/export.py family=seq2seq_transformer strategy=full FOLDER [--int8]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stage import ROOT, errors_in_one_line
from translate import chosen

from seqlab.config import TranslationEvaluation
from seqlab.errors import UserError
from seqlab.families import saved

INT8 = "--int8"


def export(arguments: list[str]) -> None:
    folders = [Path(word).resolve() for word in arguments if "=" not in word and word != INT8]
    if len(folders) != 1:
        raise UserError(f"expected one folder to write, {INT8} if wanted, and overrides key=value")
    if folders[0].exists():
        raise UserError(f"{folders[0]}: it exists already; expected a new folder")
    os.chdir(ROOT)
    stage = chosen([word for word in arguments if "=" in word])
    assert isinstance(stage.domain.evaluate, TranslationEvaluation)
    system = saved.load(stage.model / "translate", stage.trainer, stage.domain.evaluate.decoding)
    try:
        from seqlab.serving import ctranslate2
    except ImportError:
        raise UserError("ctranslate2 is not installed; pip install 'seqlab[serve]'") from None
    ctranslate2.export(system, folders[0], "int8" if INT8 in arguments else "float32")


if __name__ == "__main__":
    errors_in_one_line(lambda: export(sys.argv[1:]))
