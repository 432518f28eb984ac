"""What every test needs: annotations checked as written, two threads, repeatable random examples.

Shapes such as ``Float[np.ndarray, "variants samples"]`` are checked here and only here: outside
pytest they cost nothing. Names imported under ``if TYPE_CHECKING:`` are not checked, the other
parameters of the same function are.
"""

from __future__ import annotations

import os

# read when the libraries are first imported, so before anything below
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    # side by side, small products on shared cores crawl unless each worker keeps to one thread
    os.environ.setdefault(_name, "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("MPLBACKEND", "agg")

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
