"""What every test needs: annotations checked as written, two threads, repeatable random examples.

Shapes such as ``Float[np.ndarray, "variants samples"]`` are checked here and only here: outside
pytest they cost nothing. Names imported under ``if TYPE_CHECKING:`` are not checked, the other
parameters of the same function are.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

# read when the libraries are first imported, so before anything below
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    # side by side, small products on shared cores crawl unless each worker keeps to one thread
    os.environ.setdefault(_name, "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

from tests.typechecking import checked

install_import_hook("imgwas", f"{checked.__module__}.{checked.__name__}")

settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

with contextlib.suppress(ImportError, AttributeError):
    # examples are also made of constants in whatever modules are imported by then: other examples
    # for every order of the tests, and for every share of them that a process gets
    from hypothesis.internal.conjecture import providers

    _nothing = providers._local_constants
    providers._get_local_constants = lambda: _nothing


def _begin_anew() -> None:
    """Random numbers that no test asks a seed for are the same whatever ran before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what other libraries draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin every test with the same random numbers."""
    _begin_anew()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Iterator[None]:
    """Keep what tests share the same whoever comes first, and the same for who comes first."""
    if fixturedef.scope == "function":
        return (yield)
    _begin_anew()
    try:
        return (yield)
    finally:
        _begin_anew()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: what the last bits and the times of small networks depend on."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
