"""The IDX files of MNIST: read whole, and refused when they are not."""

import gzip
import os
import struct
import tracemalloc

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
    "a label of ten": ("train-labels-idx1-ubyte", idx(LABELS + np.uint8(6)), "got a label 11 of train; expected 0 to 9"),
    "more than gzip can pack": ("train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES)[:4] + b"\xff" * 12), "got at most"),
    "gzip too long": ("train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES) + bytes(9)), "got more than 30 bytes"),
    "gzip cut short": ("train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES))[:-9], "cut short or damaged"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_files(folder, name):
    file, content, words = SPOILED[name]
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        eq.data.mnist(folder)


def spoil(random, content, packed):
    """One of many ways to spoil a file; a plain file has no checksum, so that only its head is touched."""
    whole = gzip.compress(content, mtime=0) if packed else content
    kind = random.choice(["flip", "cut", "magic", "count", "longer"])
    if kind == "flip":
        at = random.integers(10, len(whole)) if packed else random.integers(0, 8)
        spoiled = bytearray(whole)
        spoiled[at] ^= 1 << random.integers(0, 8)
        return kind, bytes(spoiled)
    if kind == "cut":
        return kind, whole[: random.integers(0, len(whole))]
    if kind == "longer":
        content = content + bytes(random.integers(1, 100))
    else:
        first, last = (0, 4) if kind == "magic" else (4, 8)
        new = random.integers(0, 256, last - first, dtype=np.uint8).tobytes()
        content = content[:first] + (bytes([0xFF]) + new[1:] if new == content[first:last] else new) + content[last:]
    return kind, gzip.compress(content, mtime=0) if packed else content


def test_a_thousand_spoiled_files_give_one_clear_error_each_and_take_no_memory(tmp_path):
    from eqdyn import _idx

    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (40, 28, 28), dtype=np.uint8), random.integers(0, 10, 40, dtype=np.uint8)
    seen = dict.fromkeys(["flip", "cut", "magic", "count", "longer"], 0)
    path = tmp_path / "spoiled"
    for _ in range(1000):
        array = images if random.random() < 0.5 else labels
        kind, content = spoil(random, idx(array), random.random() < 0.5)
        path.write_bytes(content)
        tracemalloc.start()
        found, said = None, ""
        try:
            found = _idx.read(path, array.ndim)
        except ValueError as error:
            said = str(error)
            seen[kind] += 1
        if found is None:
            assert said.startswith("spoiled: got")
            assert "expected" in said
        else:  # a bit of gzip's head or tail that says nothing of the content
            assert kind == "flip"
            np.testing.assert_array_equal(found, array)
        assert tracemalloc.get_traced_memory()[1] < 4 * images.nbytes + 2**18
        tracemalloc.stop()
    assert min(seen.values()) > 100, seen


def test_labels_of_the_other_part_are_told(folder):
    (folder / NAMES[1]).write_bytes(idx(LABELS[:3]))
    with pytest.raises(ValueError, match="5 images and 3 labels"):
        eq.data.mnist(folder)


@pytest.mark.skipif(not os.environ.get("EQDYN_DATA"), reason="EQDYN_DATA is not set")
def test_mnist_is_mnist():
    split = eq.data.mnist()
    assert (split.train[0].shape, split.test[0].shape) == ((60_000, 784), (10_000, 784))
    assert np.bincount(split.train[1]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (float(split.train[0].min()), float(split.train[0].max())) == (0, 1)
    assert abs(float(jnp.mean(split.train[0])) - 0.1307) < 1e-4  # as everybody normalises it
