"""AutoGluon's side of bench/automl.py: runs in the interpreter that has it, and imports nothing of this project.

    PEER/bin/python bench/automl_peer.py FOLDER

FOLDER has history.parquet (unique_id, ds, y, timestamp), cutoffs.parquet (unique_id, cutoff, h) and settings.json. It
learns from every series up to its first cutoff, and forecasts from each cutoff with what is known there. Written:
autogluon.parquet, and told.json: its version, its models, seconds to imports, to a leaderboard, to all forecasts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
LEVELS = [0.025, *(round(0.1 * k, 1) for k in range(1, 10)), 0.975]
# Their weights come from a hub, not with a package.
PRETRAINED = ["Chronos", "Chronos2", "Toto", "Toto2"]
STEP, SERIES, TIME, VALUE = "ds", "unique_id", "timestamp", "y"


def since() -> float:
    return time.perf_counter() - BEGAN


def main(folder: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import autogluon.timeseries as autogluon
    import pandas as pd

    told: dict[str, Any] = {"version": autogluon.__version__, "set_up": since()}
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    history, cutoffs = (pd.read_parquet(folder / f"{name}.parquet") for name in ("history", "cutoffs"))

    def until(cutoff: Any) -> Any:
        """The values up to each series' cutoff."""
        known = history[history[STEP] <= history[SERIES].map(cutoff)]
        return autogluon.TimeSeriesDataFrame.from_data_frame(
            known[[SERIES, TIME, VALUE]], id_column=SERIES, timestamp_column=TIME
        )

    predictor = autogluon.TimeSeriesPredictor(
        target=VALUE,
        prediction_length=settings["horizon"],
        freq=settings["freq"],
        eval_metric="MASE",
        eval_metric_seasonal_period=settings["period"],
        quantile_levels=LEVELS,
        path=str(folder / "predictor"),
    )
    predictor.fit(
        until(cutoffs.groupby(SERIES)["cutoff"].min()),
        time_limit=settings["seconds"],
        presets=settings["presets"],
        excluded_model_types=PRETRAINED,
        random_seed=0,
    )
    board = predictor.leaderboard()
    print(board.to_string(), flush=True)
    if board.empty:
        raise SystemExit("no model was fitted within the limit")
    told |= {"first": since(), "models": board["model"].tolist(), "best": predictor.model_best}

    parts = []
    asked = cutoffs.assign(turn=cutoffs.sort_values("cutoff").groupby(SERIES).cumcount())
    for _, turn in asked.groupby("turn"):
        own = turn.set_index(SERIES)
        made = predictor.predict(until(own["cutoff"])).reset_index()
        ahead = made.groupby("item_id").cumcount() + 1
        known = made["item_id"].map(own["cutoff"])
        made = made.assign(cutoff=known, timestamp=known + ahead)
        parts.append(made[ahead <= made["item_id"].map(own["h"])])
    pd.concat(parts).to_parquet(folder / "autogluon.parquet", index=False)
    told["forecasts"] = since()
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
