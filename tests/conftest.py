"""Strict for our own code: float64 on, no silent promotion of dtype or rank; warnings are errors (pyproject).

Most of the time goes into compiling programs that run once, so XLA is told to make little of them (its emitters of fused loops take
longer than the plain ones); commands that the tests start run as a user's do. `EQDYN_TEST_XLA_FLAGS=` runs all at full optimisation.
"""

import gc
import os
import shutil
import tempfile
from importlib.metadata import version

os.environ.setdefault("MPLBACKEND", "Agg")
# XLA's threads; on two cores two of them can wait for each other without end inside one program (eigenvalues of a batch)
os.environ.setdefault("NPROC", "8")
# the workers of pytest-xdist inherit what is set here
os.environ.setdefault("EQDYN_USERS_XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
USERS_FLAGS = os.environ["EQDYN_USERS_XLA_FLAGS"]
LITTLE = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):  # others may not know the flag
    LITTLE += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{USERS_FLAGS} {os.environ.get('EQDYN_TEST_XLA_FLAGS', LITTLE)}"

import jax  # noqa: E402 - the flags come first
import pytest  # noqa: E402

# on two cores programs in flight can wait for each other's threads without end
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# `few_programs` lets go of what was compiled: what a module needs again is read from here. A folder for each process, since entries are not written
# at one stroke; set here and not in the environment, so that commands which the tests start do as a user's do
CACHE = tempfile.mkdtemp(prefix="eqdyn-tests-")
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# a collection walks through all that JAX holds; tracing makes many small objects, few of them in cycles
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(1)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """A process can hold some thousand compiled programs, then XLA dies: each takes dozens of memory maps."""
    yield
    jax.clear_caches()


def pytest_unconfigure(config):
    shutil.rmtree(CACHE, ignore_errors=True)
