"""The IDX files of MNIST: read whole, and refused when they are not."""

import gzip
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqdyn as eq

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3) * 8
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
NAMES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Five images to train on and three to test, one file of each kind gzipped."""
    parts = dict(zip(NAMES, (idx(IMAGES), idx(LABELS), idx(IMAGES[:3]), idx(LABELS[:3])), strict=True))
    for k, (name, content) in enumerate(parts.items()):
        (tmp_path / (f"{name}.gz" if k % 3 == 0 else name)).write_bytes(gzip.compress(content) if k % 3 == 0 else content)
    return tmp_path


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_images_are_rows_in_the_unit_interval(folder, dtype):
    split = eq.data.mnist(folder, dtype=dtype)
    assert split.train[0].dtype == dtype
    assert (split.train[0].shape, split.test[0].shape) == ((5, 6), (3, 6))
    np.testing.assert_array_equal(split.train[0], (IMAGES.reshape(5, 6).astype(dtype) / np.asarray(255, dtype)))
    np.testing.assert_array_equal(split.test[1], LABELS[:3])
    assert split.train[1].dtype == jnp.int32


def test_the_folder_comes_from_the_environment(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("EQDYN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="found no train-images"):
        eq.data.mnist()
    (tmp_path / "mnist").mkdir()
    for path in list(folder.glob("*ubyte*")):
        path.rename(tmp_path / "mnist" / path.name)
    assert eq.data.mnist().train[0].shape == (5, 6)
    monkeypatch.delenv("EQDYN_DATA")
    with pytest.raises(FileNotFoundError, match="EQDYN_DATA is not set"):
        eq.data.mnist()
    with jax.enable_x64(False), pytest.raises(TypeError, match="float64"):
        eq.data.mnist(tmp_path / "mnist", dtype=jnp.float64)


SPOILED = {
    "cut short": ("train-labels-idx1-ubyte", idx(LABELS)[:-1], "got 4 bytes after the head; expected 5"),
    "too long": ("train-labels-idx1-ubyte", idx(LABELS) + b"x", "got 6 bytes"),
    "no sizes": ("train-labels-idx1-ubyte", idx(LABELS)[:6], "expected sizes and data"),
    "empty": ("train-labels-idx1-ubyte", b"", "first bytes none"),
    "labels for images": ("t10k-images-idx3-ubyte", idx(LABELS), "expected 00000803"),
    "one label more": ("train-labels-idx1-ubyte", idx(np.zeros(6, np.uint8)), "5 images and 6 labels"),
    "gzip cut short": ("train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES))[:-9], "cut short or damaged"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_files(folder, name):
    file, content, words = SPOILED[name]
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        eq.data.mnist(folder)


@pytest.mark.skipif(not os.environ.get("EQDYN_DATA"), reason="EQDYN_DATA is not set")
def test_mnist_is_mnist():
    split = eq.data.mnist()
    assert (split.train[0].shape, split.test[0].shape) == ((60_000, 784), (10_000, 784))
    assert np.bincount(split.train[1]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (float(split.train[0].min()), float(split.train[0].max())) == (0, 1)
    assert abs(float(jnp.mean(split.train[0])) - 0.1307) < 1e-4  # as everybody normalises it
