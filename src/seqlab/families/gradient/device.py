"""What training and evaluation ask of a device: every call that touches CUDA, in the order that CUDA wants.

On a machine that computes on the CPU no call here wakes a card.
"""

from __future__ import annotations

import os

import torch

from seqlab.errors import UserError
from seqlab.settings import TrainerSettings


def check(settings: TrainerSettings) -> None:
    """Raises UserError when a GPU is asked for and torch finds none."""
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator: 'gpu', but torch finds no CUDA device; expected one, or trainer=cpu")


def chosen(settings: TrainerSettings) -> torch.device:
    """Where a single process computes, made ready (`claim`). Raises UserError as `check` does."""
    check(settings)
    on_gpu = settings.accelerator == "gpu" or (settings.accelerator == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if on_gpu else "cpu")
    claim(device)
    return device


def claim(device: torch.device) -> None:
    """Wake a CUDA device, give this process deterministic kernels there, and count its memory's peak from here on.

    Nothing happens on a CPU, whose kernels give the same bits as they are.
    """
    if device.type != "cuda":
        return
    # cuBLAS reads it when its first handle is made (its documentation, "Results reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As an error and not as a warning: only so does the fused attention that takes float32 go back in one order, and
    # an operation without a deterministic kernel stops the run that it would make irreproducible.
    torch.use_deterministic_algorithms(True)
    # Comes with determinism as an aid for finding reads of uninitialised memory, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property that torch's types lack
    # Its way back is not deterministic by default, of which torch may only warn; flash attention's is on demand.
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cudnn.benchmark = False
    # Recurrent layers would otherwise round float32 to ten bits of mantissa, which "32-true" does not say.
    torch.backends.cudnn.allow_tf32 = False
    torch.cuda.init()
    # Before a device is awake its allocator knows no statistics to reset.
    torch.cuda.reset_peak_memory_stats(device)
