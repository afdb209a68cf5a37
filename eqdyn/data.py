"""Batches, and the data sets that the experiments use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eqdyn import _checks, _idx
from eqdyn._types import Key, Tree


class Batches:
    """Minibatches drawn without replacement, reshuffled every epoch; what is left over at the end of an epoch is dropped.

    The order of epoch e follows from `fold_in(key, e)`: step t sees the same rows whatever the chunks of the run.

    Args:
        arrays: a tree of arrays with one example a row.
        batch_size: rows a batch.

    Raises:
        ValueError: arrays of different lengths, or a batch larger than the data.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> eq.Batches((np.zeros((10, 3), np.float32), np.arange(10)), 4).steps_per_epoch
        2
    """

    def __init__(self, arrays: Tree, batch_size: int):
        leaves = jax.tree.leaves(arrays)
        lengths = {np.shape(leaf)[:1] for leaf in leaves}
        if len(lengths) != 1 or lengths == {()}:
            msg = f"arrays: got lengths {sorted(lengths)}; expected arrays with the same number of rows, one example a row."
            raise ValueError(msg)
        self.num_examples = lengths.pop()[0]
        self.batch_size = _checks.count(batch_size, "batch_size", least=1)
        if self.batch_size > self.num_examples:
            msg = f"batch_size: got {batch_size}; expected at most {self.num_examples}, the number of examples."
            raise ValueError(msg)
        self.arrays = _checks.batch(arrays, "arrays")
        self.steps_per_epoch = self.num_examples // self.batch_size
        self._orders: dict[int, np.ndarray] = {}
        self._key: Key | None = None

    def rows(self, key: Key, first: int, num_steps: int) -> np.ndarray:
        """The row indices of steps `first ...`: `(..., num_steps, batch_size)`, with the axes of `key` in front."""
        blocks: list[np.ndarray] = []
        step = first
        while step < first + num_steps or not blocks:
            epoch, at = divmod(step, self.steps_per_epoch)
            until = min(self.steps_per_epoch, at + first + num_steps - step)
            blocks.append(self._shuffled(key, epoch)[..., at:until, :])
            step += until - at
        return np.concatenate(blocks, axis=-2)

    def _shuffled(self, key: Key, epoch: int) -> np.ndarray:
        """The batches of an epoch, `(..., steps_per_epoch, batch_size)`; the last epoch asked for is kept."""
        if key is not self._key or epoch not in self._orders:
            # one stream of NumPy's Philox a folded key: bits of a stream are promised, and sorting them takes no compiled program
            words = np.asarray(_folded(key, epoch))
            orders = [_order(seed, self.num_examples) for seed in words.reshape(-1, words.shape[-1])]
            used = np.stack(orders)[:, : self.steps_per_epoch * self.batch_size]
            self._key, self._orders = key, {epoch: used.reshape(*words.shape[:-1], self.steps_per_epoch, self.batch_size)}
        return self._orders[epoch]


def _order(seed: np.ndarray, num: int) -> np.ndarray:
    bits = np.random.Philox(np.random.SeedSequence(seed.tolist())).random_raw(num)
    return np.argsort(bits, kind="stable").astype(np.int32)


@jax.jit
def _folded(key: Key, epoch: Any) -> jax.Array:
    if key.ndim == 0:
        return jax.random.key_data(jax.random.fold_in(key, epoch))
    return jax.vmap(lambda one: jax.random.key_data(jax.random.fold_in(one, epoch)))(key)


def take(data: Tree, rows: jax.Array) -> Tree:
    """The examples at `rows`."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0, mode="clip", unique_indices=False), data)


class Split(NamedTuple):
    """Inputs `(n, d)` and labels or targets `(n,)`, for training and for the test."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]


def digits(*, dtype: Any = jnp.float32, test_share: float = 0.2, seed: int = 0) -> Split:
    """The handwritten digits that scikit-learn carries: 1,797 images of 8 x 8, values in [0, 1], labels 0 to 9.

    Args:
        dtype: of the inputs; labels are int32.
        test_share: share of the examples that are kept for the test.
        seed: of the split.

    Example:
        >>> import eqdyn as eq
        >>> split = eq.data.digits()
        >>> split.train[0].shape, split.test[0].shape
        ((1438, 64), (359, 64))
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    cut = len(order) - int(test_share * len(order))
    z, y = jnp.asarray(found.data / 16.0, dtype), jnp.asarray(found.target, jnp.int32)
    return Split((z[order[:cut]], y[order[:cut]]), (z[order[cut:]], y[order[cut:]]))


def mnist(folder: Any = None, *, dtype: Any = jnp.float32) -> Split:
    """MNIST from its four IDX files, plain or gzipped: 60,000 + 10,000 images of 28 x 28 as rows in [0, 1], labels 0 to 9. Exact.

    Nothing is downloaded, nothing is normalised; sizes follow the files.

    Args:
        folder: where `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k-...` lie, with `.gz` or without; default
            the folder `mnist` in that of the environment variable `EQDYN_DATA`.
        dtype: of the inputs; labels are int32.

    Raises:
        FileNotFoundError: no folder is given and `EQDYN_DATA` is not set, or a file is missing.
        ValueError: a file that is no IDX file of images or labels, is cut short, or does not fit the others.
        TypeError: float64 while x64 is off.

    Example:
        >>> import eqdyn as eq
        >>> eq.data.mnist("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: folder: found no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in nowhere; expected the four files of MNIST.

    References:
        LeCun, Cortes, Burges, the MNIST database.
    """
    if folder is None:
        if not os.environ.get("EQDYN_DATA"):
            msg = "folder: got None, and EQDYN_DATA is not set; expected where the files lie; write mnist('folder'), or set it to the folder above."
            raise FileNotFoundError(msg)
        folder = Path(os.environ["EQDYN_DATA"]) / "mnist"
    return Split(*(_mnist_part(Path(folder), part, dtype) for part in ("train", "t10k")))


def _mnist_part(folder: Path, part: str, dtype: Any) -> tuple[jax.Array, jax.Array]:
    images = _idx.read(_mnist_file(folder, f"{part}-images-idx3-ubyte"), 3)
    labels = _idx.read(_mnist_file(folder, f"{part}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        msg = f"folder: got {len(images)} images and {len(labels)} labels of {part}; expected one label an image."
        raise ValueError(msg)
    if labels.size and labels.max() > 9:
        msg = f"folder: got a label {labels.max()} of {part}; expected 0 to 9; fetch the labels again."
        raise ValueError(msg)
    z = images.reshape(len(images), -1).astype(dtype) / np.asarray(255, dtype)
    return _checks.floating(z, "inputs"), jnp.asarray(labels, jnp.int32)


def _mnist_file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    msg = f"folder: found no {name} or {name}.gz in {folder}; expected the four files of MNIST."
    raise FileNotFoundError(msg)


def teacher(
    *, key: Key, input_dim: int = 1, num_examples: int = 5000, train_share: float = 0.7, width: int = 128,
    scales: tuple[float, float] = (1.0, 0.6), dtype: Any = jnp.float32,
) -> Split:  # fmt: skip
    """Data of a random two-layer sigmoid teacher, `y = sum_j a_j sig(<w_j, z>)`, `z ~ N(0, 4)`, as the paper's public code draws it.

    The paper and its code disagree: the paper has `w ~ N(0, 0.36)`, `a ~ N(0, 1)` (write `scales=(0.6, 1.0)`) and no width;
    the 2-D code has width 128 and the scales exchanged, which is the default here.

    Args:
        key: of the teacher and the inputs.
        input_dim: dimension of z.
        num_examples: in all.
        train_share: share used for training.
        width: of the teacher.
        scales: standard deviations of w and of a.
        dtype: of inputs and targets.

    Example:
        >>> import jax, eqdyn as eq
        >>> eq.data.teacher(key=jax.random.key(0)).train[0].shape
        (3500, 1)

    References:
        Yang et al., arXiv:2510.02670, equation 57 and section C.1.
    """
    _checks.needs_key(_checks.key(key), "the teacher is drawn")
    of_w, of_a, of_z = jax.random.split(key, 3)
    w = scales[0] * jax.random.normal(of_w, (input_dim, width), dtype)
    a = scales[1] * jax.random.normal(of_a, (width,), dtype)
    z = 2 * jax.random.normal(of_z, (num_examples, input_dim), dtype)
    y = jax.nn.sigmoid(z @ w) @ a
    cut = round(train_share * num_examples)
    return Split((z[:cut], y[:cut]), (z[cut:], y[cut:]))
