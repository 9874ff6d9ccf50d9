"""One thread: two OpenMP threads that share a core with other processes are many times slower than one.

And no deadlines: how long an example takes says how busy the machine is. And no signal is ignored, as `make test &` or
`nohup` has it: what the tests start would inherit that, and never hear the Ctrl-C that it is sent.
"""

from __future__ import annotations

import gc
import os
import re
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from remotes import KINDS, Remote

from seqlab.threads import pin

# Before NumPy, torch and numba are first imported.
pin(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
settings.register_profile("seqlab", deadline=None)
settings.load_profile("seqlab")
SLOW_AS_A_WHOLE = re.compile(r"^pytestmark = .*\bmark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, a file that has no others is not imported, and so neither is MLflow."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    return bool(SLOW_AS_A_WHOLE.search(collection_path.read_text(encoding="utf-8"))) or None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the files import, and what pytest makes of them, stays to the end: no later search for cycles enters it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests begin first, so that no process ends long after the other."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """The last test of a file leaves the next one where the first began."""
    done = yield
    if (nextitem is None or nextitem.path != item.path) and (left := Path.cwd()) != item.config.invocation_params.dir:
        os.chdir(item.config.invocation_params.dir)
        pytest.fail(f"a test of this file left the current folder at {left}")
    return done


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to create: to be copied."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Remote]:
    """What DVC's configuration says of a place that several machines share, of each kind."""
    with KINDS[request.param](tmp_path) as found:
        yield found
