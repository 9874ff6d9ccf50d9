"""EM of hidden Markov models beside hmmlearn and the Kalman filter beside statsmodels, one thread, turn by turn.

    python bench/latent_ar.py [--rounds N] [--series N]

An EM step is an E-step and an M-step in float64 from equal parameters; hmmlearn runs with implementation="scaling", the
faster of its two. The Kalman column is the log-likelihood of a panel of equal series of which parameters are known:
ours in one call, statsmodels' `loglike` once a series on a model that is made before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from hmmlearn.hmm import CategoricalHMM
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

from seqlab.data.sequences import Sequences
from seqlab.families.closed_form import hmm, kalman
from seqlab.families.closed_form.hmm import Chain
from seqlab.families.closed_form.kalman import Gains, StateSpace

SYMBOLS = 32
SIZES = [(64, 100, 8), (512, 200, 8), (512, 200, 32), (512, 200, 64)]  # sequences, steps, hidden states
STATES = [(2, 1), (4, 1), (13, 1), (4, 3)]  # width of the state, channels
STEPS = 200


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """The best of each, turn by turn: other processes on the machine only ever add time."""
    times = [[seconds(call) for call in calls] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]


def em_steps(rounds: int) -> None:
    print(f"{'N x T':>10} {'K':>3} {'ours ms':>9} {'hmmlearn ms':>12} {'ratio':>7} {'log-likelihood differs by':>26}")
    for sequences, steps, states in SIZES:
        rng = np.random.default_rng(0)
        chain = Chain.of(tuple(rng.random(shape) for shape in ((states,), (states, states), (SYMBOLS, states))))
        text = Sequences(
            rng.integers(SYMBOLS, size=sequences * steps).astype(np.uint8), np.arange(sequences + 1) * steps
        )
        column, lengths = text.values[:, None].astype(np.int64), text.lengths
        peer = CategoricalHMM(states, n_features=SYMBOLS, n_iter=1, init_params="", implementation="scaling")

        def ours(chain: Chain = chain, text: Sequences = text) -> float:
            counts, log_likelihood = hmm.expect(chain, text)
            Chain.of(counts)
            return log_likelihood

        def theirs(
            peer: CategoricalHMM = peer,
            chain: Chain = chain,
            column: np.ndarray = column,
            lengths: np.ndarray = lengths,
        ) -> float:
            peer.startprob_, peer.transmat_, peer.emissionprob_ = chain.start, chain.transition, chain.emission.T
            return float(peer.fit(column, lengths).monitor_.history[0])

        difference = abs(ours() / theirs() - 1)
        a, b = best(rounds, ours, theirs)
        print(
            f"{f'{sequences} x {steps}':>10} {states:>3} {a * 1e3:>9.2f} {b * 1e3:>12.2f} {b / a:>7.1f} "
            f"{difference:>26.0e}"
        )


def likelihoods(rounds: int, series: int) -> None:
    print(f"\n{series:,} series of {STEPS} steps, log-likelihood")
    print(f"{'n':>3} {'C':>3} {'ours ms':>9} {'statsmodels ms':>15} {'ratio':>7} {'differs by':>11}")
    for states, channels in STATES:
        rng = np.random.default_rng(0)
        model = StateSpace(
            mean=np.zeros(states),
            spread=np.eye(states),
            transition=0.95 * np.linalg.qr(rng.standard_normal((states, states)))[0],
            noise=0.3 * np.eye(states),
            offset=np.zeros(channels),
            output=rng.standard_normal((channels, states)),
            error=0.5 * np.eye(channels),
        )
        x = rng.standard_normal((series, STEPS, channels))
        mask = np.ones(x.shape[:2], bool)
        peers = []
        for one in x:
            peer = KalmanFilter(k_endog=channels, k_states=states)
            peer.bind(one)
            peer["design"], peer["obs_cov"], peer["transition"] = model.output, model.error, model.transition
            peer["selection"], peer["state_cov"] = np.eye(states), model.noise
            peer.initialize_known(model.mean, model.spread)
            peers.append(peer)

        def ours(model: StateSpace = model, x: np.ndarray = x, mask: np.ndarray = mask) -> float:
            return float(kalman.log_density(model, Gains.of(model, STEPS), x, mask).sum())

        def theirs(peers: list[KalmanFilter] = peers) -> float:
            return float(sum(peer.loglike() for peer in peers))

        difference = abs(ours() / theirs() - 1)
        a, b = best(rounds, ours, theirs)
        print(f"{states:>3} {channels:>3} {a * 1e3:>9.2f} {b * 1e3:>15.1f} {b / a:>7.0f} {difference:>11.0e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--series", type=int, default=1_000)
    arguments = parser.parse_args()
    em_steps(arguments.rounds)
    likelihoods(arguments.rounds, arguments.series)


if __name__ == "__main__":
    main()
