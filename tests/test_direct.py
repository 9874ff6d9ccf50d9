"""Networks that forecast all steps at once: the end is pinned to ridge regression, to its units and to who chose it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from seqlab import config
from seqlab.artifacts import read_json
from seqlab.data.ahead import Ahead, Look
from seqlab.data.domains import base
from seqlab.data.prepared import TARGET, Meta
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.families.gradient.direct import LEVELS, DirectEnd, paths
from seqlab.families.gradient.predictor import TorchPredictor
from seqlab.families.nlinear import Ridge
from seqlab.families.saved import Recipe
from seqlab.settings import Strategy
from seqlab.stages.finetune import finetune
from seqlab.tasks.forecast import gradient
from seqlab.tasks.forecast.loss import Loss
from seqlab.tasks.forecast.ways import DIRECT, sentence, way
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).parents[1] / "conf"
LOOK = Look(horizon=6, window=9, season=4, differences="season", scaling="window", ridge=0.01)


def shipped(name: str) -> Any:
    return yaml.safe_load((CONF / name).read_text(encoding="utf-8"))


TRAINER = config.trainer(shipped("trainer/cpu.yaml"))


def panel(number: int, length: int, seed: int, channels: int = 2, first: int | None = None) -> Sequences:
    """Seasons that grow, and noise."""
    rng, steps = np.random.default_rng(seed), np.arange(length)[:, None]
    arrays = [
        np.sin(np.pi / 2 * (steps + rng.integers(4))) + 0.02 * steps + 0.1 * rng.standard_normal((length, channels))
        for _ in range(number)
    ]
    held = {} if first is None else {"first": np.full(number, first)}
    return Sequences.from_arrays([values.astype(np.float32) for values in arrays], **held)


def model(name: str = "gru", look: Look = LOOK, taken: bool = True, channels: int = 2) -> gradient.Direct:
    """With an end that begins at its data, and whose body has a say."""
    parameters = {k: v for k, v in shipped(f"family/{name}.yaml").items() if k not in ("_target_", "optimizer")}
    torch.manual_seed(0)
    made: gradient.Direct = Recipe(
        shipped(f"family/{name}.yaml")["_target_"], parameters | {"hidden_size": 16}, "gradient", "vectors", channels,
        None, "seqlab.tasks.forecast.gradient.forecaster",
    ).build()  # fmt: skip
    gradient.begin(made.ends, Ahead.of(panel(8, 40, 1, channels), look))  # type: ignore[arg-type]
    torch.nn.init.normal_(made.direct.leave.weight, std=0.1)
    made.direct.taken.fill_(taken)
    return made.eval()


def forecast(of: gradient.Direct, x: np.ndarray, steps: int, samples: int = 39, seed: int = 0) -> np.ndarray:
    mask = np.ones(x.shape[:2], bool)
    return TorchPredictor(of, "cpu", "fp32").forecast(x.astype(np.float32), mask, steps, samples, seed)


def test_the_highway_begins_at_the_ridge_regression_of_whole_windows() -> None:
    look = replace(LOOK, differences="last")
    end = model(look=look).direct
    rows = []
    for series in panel(8, 40, 1):
        for t in range(look.window, 40 - look.horizon + 1):
            for channel in series.T.astype(np.float64):
                window, future = channel[t - look.window : t][::-1], channel[t : t + look.horizon]
                scale = np.sqrt(np.mean((window[:-4] - window[4:]) ** 2))
                rows.append(np.concatenate([[1], (window[1:] - window[0]) / scale, (future - window[0]) / scale]))
    moments = np.array(rows).T @ np.array(rows)
    expected = Ridge(moments, look.window - 1).fit(look.ridge)
    np.testing.assert_allclose(end.highway.weight.detach().numpy().T, expected.slopes, atol=2e-4)


@pytest.mark.parametrize("scaling", ["window", "none"])
def test_a_series_of_another_level_and_size_is_read_alike_where_windows_are_scaled(scaling: Any) -> None:
    end = model(look=replace(LOOK, scaling=scaling)).direct
    x = torch.from_numpy(panel(3, 30, 2).values).view(3, 30, 2)
    rows, ends = torch.tensor([0, 1, 2, 2]), torch.tensor([30, 12, 9, 3])
    one, other = end.read(x, rows, ends), end.read(5 - 3 * x, rows, ends)
    same = torch.allclose(one.shape, -other.shape, atol=1e-4)
    assert same == (scaling == "window")
    torch.testing.assert_close(other.last, 5 - 3 * one.last)


def test_untrained_and_without_a_highway_a_forecast_is_last_seasons() -> None:
    end = DirectEnd(2, 5, LOOK)
    x = torch.from_numpy(panel(1, 30, 2).values)[None]
    window = end.read(x, torch.tensor([0]), torch.tensor([20]))
    median = end(torch.randn(1, 5), window.shape)[..., LEVELS.index(0.5)]
    made = median * window.scale[..., None] + window.last[..., None]
    torch.testing.assert_close(made[0].T, x[0, [16, 17, 18, 19, 16, 17]], atol=1e-5, rtol=0)


def test_quantiles_of_paths_are_those_of_the_end() -> None:
    quantiles = torch.randn(2, 1, 3, 5, len(LEVELS)).sort(-1).values
    made = paths(quantiles, 39, torch.Generator().manual_seed(0))
    assert made.shape == (2, 39, 5, 3)
    found = np.quantile(made.numpy(), LEVELS, axis=1, method="weibull")  # (K, B, H, C)
    np.testing.assert_allclose(found.transpose(1, 3, 2, 0), quantiles[:, 0].numpy(), atol=1e-5)
    assert paths(quantiles, 1, torch.Generator()).equal(quantiles[..., LEVELS.index(0.5)].transpose(2, 3))


@pytest.mark.parametrize("name", ["mlp", "gru", "transformer"])
def test_what_comes_later_and_what_pads_changes_no_forecast(name: str) -> None:
    made, x = model(name), panel(1, 30, 3).values[None]
    padded = np.concatenate([x[:, :20], np.full((1, 10, 2), 7.0)], 1)
    mask = np.arange(30)[None] < 20
    of = TorchPredictor(made, "cpu", "fp32")
    found = of.forecast(padded.astype(np.float32), mask, 6, 9, 0)
    np.testing.assert_allclose(found, forecast(made, x[:, :20], 6, 9), atol=1e-4)


def test_beyond_the_horizon_paths_go_on_from_themselves() -> None:
    made, x = model(), panel(2, 30, 3).values.reshape(2, 30, 2)
    long = forecast(made, x, 14, 5)
    np.testing.assert_allclose(long[:, :, :6], forecast(made, x, 6, 5), atol=1e-5)
    assert np.isfinite(long).all()
    one = forecast(made, x, 14, 1)
    follows = forecast(made, np.concatenate([x, one[:, 0, :6]], 1), 6, 1)
    np.testing.assert_allclose(one[:, :, 6:12], follows, atol=1e-4)


def test_an_empty_past_has_a_forecast() -> None:
    found = TorchPredictor(model(), "cpu", "fp32").forecast(
        np.zeros((2, 1, 2), np.float32), np.array([[False], [True]]), 6, 9, 0
    )
    assert np.isfinite(found).all()


def test_not_taken_the_family_samples_as_ever() -> None:
    made, x = model(taken=False), panel(1, 20, 3).values[None]
    own = super(gradient.Direct, made).forecast(torch.from_numpy(x), torch.ones(1, 20, dtype=torch.bool), 3, 4, 0)
    np.testing.assert_array_equal(forecast(made, x, 3, 4), own.double().numpy())


def test_training_data_that_hold_no_whole_window_are_refused() -> None:
    with pytest.raises(UserError, match=r"finetune\.forecast\.look: 0 windows of 39 steps with 6 steps after"):
        model(look=replace(LOOK, window=39))


def test_a_window_without_a_season_has_no_difference_to_it() -> None:
    with pytest.raises(UserError, match="a window of 4 steps has no value of a season of 4 steps before"):
        model(look=replace(LOOK, window=4))


@pytest.mark.parametrize(("by", "trained"), [("validation", True), ("samples", False)])
def test_one_key_says_whether_an_end_is_trained(by: str, trained: bool) -> None:
    tree = shipped("domain/series.yaml")
    tree["finetune"]["forecast"] |= {"by": by}
    tree["finetune"]["forecast"]["look"]["season"] = 12
    series, families = config.domain("series", tree), {n: family(n) for n in ("gru", "markov", "theta", "seq2seq_rnn")}
    assert ("forecast" in config.tasks_of(series, families["gru"])) == trained
    assert "forecast" not in config.tasks_of(series, families["markov"])
    assert "forecast" in config.tasks_of(series, families["theta"])  # which has no next step
    assert "forecast" not in families["seq2seq_rnn"].tasks
    stocks = config.domain("stocks", shipped("domain/stocks.yaml"))
    assert "forecast" not in config.tasks_of(stocks, families["gru"])


def family(name: str, **changed: Any) -> Any:
    return config.family(name, shipped(f"family/{name}.yaml") | changed)


def test_before_the_first_step_the_samples_are_validated_and_then_the_end() -> None:
    made, lost = model(taken=False), Loss()
    batch = TensorBatch.of(panel(3, 40, 2, first=30).batch(np.arange(3)))
    with torch.no_grad():
        before = lost(made, batch).mean
        made.direct.leave.bias.fill_(1e3)
        assert lost(made, batch).mean == before
    lost(made.train(), batch)
    with torch.no_grad():
        assert lost(made.eval(), batch).mean > 100 * before


@pytest.mark.slow
def test_a_trained_end_is_kept_and_opened_and_the_report_says_at_which_step(tmp_path: Path) -> None:
    home = tmp_path / "prepared"
    splits = {"train": panel(12, 40, 1, 1), "valid": panel(6, 40, 2, 1, first=30), "test": panel(6, 46, 3, 1, first=40)}
    for split, sequences in splits.items():
        sequences.save(home / TARGET / split)
    base.write_meta(home, Meta(kind="vectors", size=1, tasks=["next_step"], classes=[]))
    tree = shipped("domain/series.yaml")
    tree["finetune"]["forecast"]["look"] |= {"season": 4, "window": 9, "horizon": 6}
    budgets = {
        task: replace(budget, steps=4, evaluations=2, tokens=256)
        for task, budget in config.domain("series", tree).finetune.items()
        if task != "classify"
    }
    out = tmp_path / "model"
    finetune(
        home, out, domain="series", family=family("gru", hidden_size=16), budgets=budgets,
        strategy=Strategy("scratch", 1.0), start=None, teacher=None, fraction=1.0, steps=1.0, positions=None, seed=0,
        trainer=TRAINER, checkpoint=Checkpoint(tmp_path / "resume", 1e9),
    )  # fmt: skip
    report = read_json(out / "report.json")
    lost = [point["valid_loss"] for point in report["forecast"]["details"]["curves"]]
    assert min(lost[1:]) < lost[0] / 2  # the ridge regression against a network of four steps
    assert way(report) == DIRECT
    opened = loading.load(out / "forecast", Use(TRAINER))
    assert opened.model.direct.taken
    x = splits["test"].batch(np.array([0]))
    assert opened.forecast(x.x[:, :40], x.mask[:, :40], 6, 9, 0).shape == (1, 9, 6, 1)


def test_a_report_says_which_way_a_network_forecasts() -> None:
    reports = [{"forecast": {"details": {"best_step": step}}} for step in (0, 20)]
    ways = {name: way(report) for name, report in zip(("gru scratch", "mlp full"), reports, strict=True)}
    assert (
        sentence(ways) == "Networks forecast as validation chose, all steps at once: mlp full; "
        "by samples of the next step: gru scratch."
    )
    assert way({"forecast": {"details": {"chosen": {}}}}) is None
    assert way({"next_step": {"details": {"best_step": 3}}}) is None
