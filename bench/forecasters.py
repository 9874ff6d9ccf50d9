"""Training steps/s of the recurrent families beside neuralforecast's RNN, LSTM and GRU on the same panel of series.

    python bench/forecasters.py [--family rnn|lstm|gru] [--windows 64x128] [--steps N] [--part step|fit] [--muon]

Both sides have the layers and hidden size of conf/family, the same windows of the same random walks, fused AdamW with
the same settings, clipping, a Student's t density, one thread. `step` is a module's own loss (their `training_step`,
our `next_step_loss` and the gathering of its batch), backward, clipping and AdamW, in turn; a figure is the median over
the steps, the last that of each step's ratio. `fit` is all of NeuralForecast.fit and of our `fit` under Lightning's
Trainer, in turn: the time of two budgets subtracted, so that neither's start counts; the median over the rounds. Time
is the process's CPU time, which another process does not lengthen much.

What differs. Their model reads a window of L steps and predicts the h that follow it all at once, from its last h
states; ours predicts each of the L steps from those before it. So there are two peers: `each step`, h = L, as many
predictions as ours, and `12 ahead, MAE`, the loss that is their default and a usual horizon, about the least it can do.
Their recurrent layer reads the number itself; ours an embedding of width H. Their decoder is one linear map, as ours
(their default has a hidden layer as well). Spared theirs: scaling of each window (`identity`); cutting windows from
long series, since each series is one window; and denormals, which are flushed: far from the horizon its gradients
vanish, and processors are slow on the remains. Kept in ours: checkpoints every 15 s, a line of progress. Neither
validates between the budgets or logs. Rates: theirs is constant, ours warms up and decays. --muon: ours with the
optimiser of conf/family, Muon for the matrices of the body, which theirs has not.

Ends where the peer is not installed (`pip install neuralforecast`, best in an environment of its own).
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from seqlab.config import family as checked
from seqlab.data.sequences import Sequences, Space
from seqlab.settings import Budget, Optimizer, TrainerSettings
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.optim import build_optimizer
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).resolve().parent.parent / "conf" / "family"
BATCHES = 8  # of an epoch
WARM = 3  # steps not counted: oneDNN prepares a kernel for each new shape
SETTINGS = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
next_step_loss = loss_of("next_step")


class Case(NamedTuple):
    """A family at its sizes, and the shape of a batch. panel: (series, 2 L), of which a model sees what it needs."""

    family: str
    batch: int
    length: int
    panel: np.ndarray
    recipe: Any
    optimizer: Optimizer


class Peer(NamedTuple):
    """Their horizon, None for the window's own length, and loss."""

    name: str
    horizon: int | None
    loss: str


PEERS = (Peer("each step, Student's t", None, "student_t"), Peer("12 ahead, MAE", 12, "mae"))


def case_of(family: str, windows: str, muon: bool) -> Case:
    batch, length = map(int, windows.split("x"))
    recipe = checked(family, yaml.safe_load((CONF / f"{family}.yaml").read_text()))
    assert recipe.optimizer is not None
    optimizer = recipe.optimizer if muon else replace(recipe.optimizer, matrix_learning_rate=None)
    walks = np.random.default_rng(0).normal(size=(BATCHES * batch, 2 * length)).cumsum(1)
    panel = (walks - walks.mean(1, keepdims=True)) / walks.std(1, keepdims=True)
    return Case(family, batch, length, panel.astype(np.float32), recipe, optimizer)


def our_model(case: Case) -> Any:
    torch.manual_seed(0)
    return case.recipe.component.build(Space("vectors", 1), None).train()


def our_data(case: Case) -> Sequences:
    return Sequences.from_arrays([series[: case.length, None] for series in case.panel])


def horizon_of(case: Case, peer: Peer) -> int:
    return case.length if peer.horizon is None else peer.horizon


def their_model(case: Case, peer: Peer, steps: int) -> Any:
    from neuralforecast import losses, models

    parameters, horizon = case.recipe.component.parameters, horizon_of(case, peer)
    loss = losses.pytorch.DistributionLoss("StudentT") if peer.loss == "student_t" else losses.pytorch.MAE()
    return getattr(models, case.family.upper())(
        h=horizon,
        input_size=case.length,
        encoder_n_layers=parameters["layers"],
        encoder_hidden_size=parameters["hidden_size"],
        decoder_layers=1,
        loss=loss,
        scaler_type="identity",
        step_size=case.length + horizon,  # so that a series is one window
        batch_size=case.batch,
        windows_batch_size=case.batch,
        max_steps=steps,
        learning_rate=case.optimizer.learning_rate,
        optimizer=torch.optim.AdamW,
        optimizer_kwargs={
            "betas": tuple(case.optimizer.betas),
            "weight_decay": case.optimizer.weight_decay,
            "fused": True,
        },
        val_check_steps=steps,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=case.optimizer.clip,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def their_panel(case: Case, peer: Peer) -> Any:
    import pandas as pd

    series, steps = len(case.panel), case.length + horizon_of(case, peer)
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(series), steps),
            "ds": np.tile(np.arange(steps), series),
            "y": case.panel[:, :steps].ravel(),
        }
    )


def stepper(model: torch.nn.Module, optimizer: Any, clip: float, loss: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return step


def our_step(case: Case) -> Callable[[], Any]:
    model, data, indices = our_model(case), our_data(case), np.arange(case.batch)
    optimizer = build_optimizer(model, case.optimizer)
    loss = lambda: next_step_loss(model, TensorBatch.of(data.batch(indices))).mean  # noqa: E731
    return stepper(model, optimizer, case.optimizer.clip, loss)


def their_step(case: Case, peer: Peer) -> Callable[[], Any]:
    from neuralforecast.tsdataset import TimeSeriesDataModule, TimeSeriesDataset

    model = their_model(case, peer, steps=1).train()
    dataset, *_ = TimeSeriesDataset.from_df(their_panel(case, peer))
    batch = next(iter(TimeSeriesDataModule(dataset, case.batch, shuffle_train=False).train_dataloader()))
    optimizer = model.configure_optimizers()["optimizer"]
    return stepper(model, optimizer, case.optimizer.clip, lambda: model.training_step(batch, 0))


def our_fit(case: Case) -> Callable[[int], Any]:
    data = our_data(case)
    valid = data.subset(np.arange(1))

    def run(steps: int) -> None:
        with TemporaryDirectory() as folder:
            fit(
                our_model(case),
                next_step_loss,
                data,
                valid,
                budget=Budget(steps, case.batch * case.length, 1),
                optimizer=case.optimizer,
                trainer=SETTINGS,
                seed=0,
                checkpoint=Checkpoint(Path(folder) / "training", 15.0),
                log=lambda *_: None,
            )

    return run


def their_fit(case: Case, peer: Peer) -> Callable[[int], Any]:
    from neuralforecast import NeuralForecast

    panel = their_panel(case, peer)
    return lambda steps: NeuralForecast(models=[their_model(case, peer, steps)], freq=1).fit(panel, val_size=0)


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(measures: list[Callable[[], float]], rounds: int) -> list[list[float]]:
    """One list for each measure, of a figure for each round."""
    found: list[list[float]] = [[] for _ in measures]
    for i in range(rounds):
        # Who comes next finds the caches as the one before left them, so they take turns at that too.
        for k in range(len(measures))[:: 1 if i % 2 else -1]:
            found[k].append(measures[k]())
    return found


def compare_steps(case: Case, steps: int) -> list[list[float]]:
    """Seconds of each step: ours, then each peer's."""
    runs = [our_step(case), *(their_step(case, peer) for peer in PEERS)]
    found = in_turn([partial(seconds, run) for run in runs], WARM + steps)
    return [figures[WARM:] for figures in found]


def compare_fits(case: Case, steps: int, rounds: int) -> list[list[float]]:
    """Seconds of a step in each round: ours, then each peer's."""
    runs = [our_fit(case), *(their_fit(case, peer) for peer in PEERS)]
    for run in runs:
        run(WARM)

    def difference(run: Callable[[int], Any]) -> float:
        short, long = (seconds(partial(run, number)) for number in (WARM, WARM + steps))
        return (long - short) / steps

    return in_turn([partial(difference, run) for run in runs], rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("rnn", "lstm", "gru"), action="append")
    parser.add_argument("--windows", action="append", help="batch x length")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="of fit")
    parser.add_argument("--part", choices=("step", "fit"), action="append")
    parser.add_argument("--muon", action="store_true")
    arguments = parser.parse_args()
    if importlib.util.find_spec("neuralforecast") is None:
        raise SystemExit("neuralforecast: not installed; pip install neuralforecast")
    # Their notices and Lightning's, on what is asked of them here.
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print("| family | windows | what | peer | neuralforecast, steps/s | ours, steps/s | our speed, as a multiple |")
    print("|---|---|---|---|---|---|---|")
    for windows in arguments.windows or ("64x128", "64x256", "256x128"):
        for family in arguments.family or ("rnn", "lstm", "gru"):
            case = case_of(family, windows, arguments.muon)
            for part in arguments.part or ("step", "fit"):
                mine, *theirs = (
                    compare_steps(case, arguments.steps)
                    if part == "step"
                    else compare_fits(case, arguments.steps, arguments.rounds)
                )
                for peer, figures in zip(PEERS, theirs, strict=True):
                    ratio = median(t / m for m, t in zip(mine, figures, strict=True))
                    speeds = f"{1 / median(figures):.2f} | {1 / median(mine):.2f}"
                    print(f"| {family} | {windows} | {part} | {peer.name} | {speeds} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
