"""Run folders: what comes back, what is refused, and what is left when a process dies."""

import json
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stored
from stored import begun, content, files, ingredients, kept, loaded
from tables import ADAPTED, KEYED, RULES

import eqdyn as eq
from eqdyn.store import _describe, _files, _manifest, _records, _structure, _tree, _zarr

# --- a tree in a directory -------------------------------------------------------------------------------------------------

OBJECTS = np.empty((2, 1), object)
OBJECTS[0, 0], OBJECTS[1, 0] = None, eq.topology.persistence(np.array([[0.0], [1.0], [3.0]]))
TREES = {
    "dtypes": [np.arange(6).reshape(2, 3).astype(dtype) for dtype in ("bool", "int8", "uint64", "float16", "float32", "complex128")],
    "small floats": [jnp.asarray([1.5, -0.0, jnp.nan], dtype) for dtype in ("bfloat16", "float8_e5m2", "float8_e4m3fn")],
    "keys": {"one": jax.random.key(3), "more": jax.random.split(jax.random.key(1, impl="rbg"), 3)},
    "numbers": [None, True, -(10**30), 0.1, float("nan"), float("inf"), -0.0, 1 + 2j, "é/..\n", np.float32(0.5), np.int64(3), np.True_],
    "nodes": {"b": (1, [2, (), {}]), "w": {7: eq.Weighted(jnp.ones((2, 1)), jnp.ones(2))}, "/../x": np.zeros((0, 3))},
    "a record of optax": optax.adam(1.0).init(jnp.ones(3)),
    "a series": eq.observer.series_like(jnp.ones(2)),
    "big-endian, strided": [np.arange(4, dtype=">f8"), np.arange(10)[::3], np.asfortranarray(np.arange(6).reshape(2, 3))],
    "objects": OBJECTS,
    "no leaves": {},
}


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(p) is type(q), (p, q)
        if isinstance(p, np.ndarray) and p.dtype == object:
            assert p.shape == q.shape
            identical(list(p.ravel()), list(q.ravel()))
        elif hasattr(p, "dtype") and jax.dtypes.issubdtype(p.dtype, jax.dtypes.prng_key):
            assert p.dtype == q.dtype
            np.testing.assert_array_equal(jax.random.key_data(p), jax.random.key_data(q))
        elif hasattr(p, "dtype"):
            assert (p.shape, p.dtype.newbyteorder("=")) == (q.shape, q.dtype)
            assert np.asarray(p).astype(q.dtype).tobytes() == np.asarray(q).tobytes()
        else:
            assert repr(p) == repr(q)


@pytest.mark.parametrize("name", TREES)
def test_a_tree_comes_back(name, tmp_path):
    _tree.write(tmp_path / "t", TREES[name], meta={"step": 3})
    tree, meta = _tree.read(tmp_path / "t")
    identical(TREES[name], tree)
    assert meta == {"step": 3}
    with pytest.raises(FileExistsError, match="holds a tree"):
        _tree.write(tmp_path / "t", {})
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_tree_into_the_structure_of_another(tmp_path):
    tree = {"w": jnp.ones((2, 3)), "b": (jnp.zeros(2), None)}
    _tree.write(tmp_path / "t", tree)
    identical(_tree.read(tmp_path / "t", like=jax.eval_shape(lambda: tree))[0], tree)
    for like, said in (
        ({"w": jnp.ones((2, 4)), "b": (jnp.zeros(2), None)}, r"w: got \(2, 3\) float64; expected \(2, 4\)"),
        ({"w": jnp.ones((2, 3)), "b": (jnp.zeros(2, jnp.float32), None)}, r"b/0: got \(2,\) float64; expected \(2,\) float32"),
        ({"w": jnp.ones((2, 3)), "b": (jnp.zeros(2), jnp.zeros(2))}, "b/1: got none"),
        ({"w": jnp.ones((2, 3))}, "b/0: got a leaf; expected none"),
    ):
        with pytest.raises(ValueError, match=said):
            _tree.read(tmp_path / "t", like)
    with jax.enable_x64(False), pytest.raises(TypeError, match="x64 is off"):
        _tree.read(tmp_path / "t")


@pytest.mark.parametrize(("leaf", "said"), [(object(), "leaf of class object"), (np.array(["text"]), "dtype <U4"), ({(1, 2): 3}, "a dict with keys")])
def test_what_cannot_be_written_is_named(leaf, said, tmp_path):
    with pytest.raises(TypeError, match=rf"\['a'\].*: got .*{said}"):
        _tree.write(tmp_path / "t", {"a": leaf})
    assert not list(tmp_path.iterdir())


def test_a_record_whose_class_is_not_there_keeps_its_fields(tmp_path):
    class Local(eq.Weighted):
        pass

    _tree.write(tmp_path / "t", Local(jnp.ones((2, 1)), jnp.ones(2)))
    found = _tree.read(tmp_path / "t")[0]
    assert found._fields == ("x", "weight")
    np.testing.assert_array_equal(found.weight, np.ones(2))


# --- a run that goes on ----------------------------------------------------------------------------------------------------

QUICK = ["schedule", "narrow"]
ALL = [*stored.SPECIAL, *(f"{rule} {dtype}" for rule in (*RULES, *KEYED, *ADAPTED) for dtype in ("float32", "float64"))]


def goes_on_in_a_new_process(names, tmp_path):
    whole = {}
    for name in names:
        whole[name] = repr(content(begun(name, 20)))
        part = begun(name, 3)
        eq.store.save(part, tmp_path / name)
        eq.store.save(part.resume(4), tmp_path / name)
        if len(names) > 9:
            jax.clear_caches()
    done = subprocess.run(
        [sys.executable, stored.__file__, "go_on", str(tmp_path), "13", *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(stored.__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert (tmp_path / f"{name}.said").read_text() == whole[name], name


def test_saved_and_gone_on_with_in_a_new_process_it_is_the_unbroken_run(tmp_path):
    goes_on_in_a_new_process(QUICK, tmp_path)


@pytest.mark.slow
def test_every_rule_in_every_dtype_goes_on_in_a_new_process(tmp_path):
    goes_on_in_a_new_process(ALL, tmp_path)


def test_a_run_is_looked_at_without_what_it_was_made_with(tmp_path):
    run = begun("schedule", 9)
    eq.store.save(run, tmp_path / "run")
    found = eq.load(tmp_path / "run")
    assert found.summary() == run.summary()
    identical((found.x, found.state, found.loss), (run.x, run.state, run.loss))
    for name in ("pairs", "host"):
        np.testing.assert_array_equal(found.observed[name].steps, run.observed[name].steps)
        identical(found.observed[name].values, run.observed[name].values)
    np.testing.assert_array_equal(found.observed["../since"][1].values.low, run.observed["../since"].values.low)
    assert found.to_xarray().equals(begun("schedule", 9).to_xarray()[list(found.to_xarray())])
    with pytest.raises(ValueError, match="without rule, data, eta, observe"):
        found.resume(1)


def test_records_are_read_by_zarr_and_xarray_alone(tmp_path):
    xarray, zarr = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    run = begun("lanes", 5)
    eq.store.save(run, tmp_path / "run")
    eq.store.save(run.resume(4), tmp_path / "run")
    parts = []
    for path in sorted((tmp_path / "run" / "observations").iterdir()):
        with zarr.storage.ZipStore(path, mode="r") as store:
            parts.append(xarray.open_zarr(store, group="observed/pairs", consolidated=False).load())
            assert zarr.open_group(store, mode="r")["loss/values"].shape[0] == 3
    whole = xarray.concat(parts, "step")
    assert whole["q"].dims == ("lane", "step")
    np.testing.assert_array_equal(whole["q"], begun("lanes", 9).observed["pairs"].values.q)
    np.testing.assert_array_equal(whole["step"], [0, 3, 6])


def test_zarr_reads_every_dtype_as_it_was_written(tmp_path):
    zarr = pytest.importorskip("zarr")
    values = {name: np.arange(6).reshape(3, 2).astype(dtype) for name, dtype in _structure.DTYPES.items()} | {"none": np.zeros((3, 0))}
    archive = _records.pack([_records.Records("place", "observed/x", 0, np.arange(3), values)])
    (tmp_path / "x.zip").write_bytes(archive)
    identical(_records.unpack("x.zip", archive, _files.digest(archive))[0].values, values)
    with zarr.storage.ZipStore(tmp_path / "x.zip", mode="r") as store:
        group = zarr.open_group(store, mode="r")["observed/x"]
        assert {"step", *values} == set(group)
        for name, array in values.items():
            assert group[name.strip("_")][...].tobytes() == array.tobytes(), name
            assert array.dtype.isbuiltin != 1 or group[name].dtype == array.dtype


def test_an_observer_that_is_replaced_begins_anew(tmp_path):
    rule, x0, options = ingredients("tree")
    watch = {"x": eq.observer.recorder(lambda frame: frame.x["b"][0][0])}
    run = eq.simulate(rule, x0, num_steps=4, observe=watch, **options)
    eq.store.save(run, tmp_path / "run")
    other = {"x": eq.observer.recorder(lambda frame: frame.x["b"][0][1] + 1)}
    run = eq.simulate(rule, eq.load(tmp_path / "run", rule), num_steps=3, observe=other, **options)
    eq.store.save(run, tmp_path / "run")
    found = eq.load(tmp_path / "run", rule, observe=other)
    assert found.observed["x"].steps.tolist() == [4, 5, 6]
    assert content(found.resume(2)) == content(run.resume(2))


# --- a run that is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lanes", "schedule", "tree"])
def test_started_again_it_goes_on_and_leaves_the_same_files(name, tmp_path):
    whole = kept(name, tmp_path / "whole")
    assert content(whole) == content(begun(name, 9))
    kept(name, tmp_path / "run", num_steps=4)
    assert content(kept(name, tmp_path / "run")) == content(whole)
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    assert content(kept(name, tmp_path / "run")) == content(whole), "nothing is left to do"


def test_ctrl_c_leaves_what_was_saved(tmp_path):
    def stop(step, last, run):
        if step > 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(eq.Interrupted):
        kept("tree", tmp_path, progress=stop)
    assert eq.load(tmp_path).step == 4
    assert content(kept("tree", tmp_path)) == content(begun("tree", 9))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": 0.2}, "with eta"),
        ({"chunk": 4}, "with chunk"),
        ({"num_steps": 3}, "num_steps: got 3; expected at least 9"),
        ({"save_every": 0}, "save_every: got 0"),
        ({"observe": {"x": eq.observer.recorder(lambda frame: frame.x["w"][0])}}, "with observers"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(changes, said, tmp_path):
    kept("tree", tmp_path)
    with pytest.raises(ValueError, match=said):
        kept("tree", tmp_path, **changes)
    rule, x0, options = ingredients("tree")
    with pytest.raises(ValueError, match="with start"):
        eq.store.run(tmp_path, rule, jax.tree.map(lambda leaf: leaf + 1, x0), num_steps=9, save_every=4, **options)


# --- folders from elsewhere ------------------------------------------------------------------------------------------------


def signed(folder, change):
    """A manifest with another content, and the checksum that belongs to it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if not isinstance(manifest.get("log"), dict):
        manifest["log"] = {}
    manifest["log"].pop("sha256", None)
    manifest["log"]["sha256"] = _files.digest(_manifest._text(manifest))
    (folder / "manifest.json").write_bytes(_manifest._text(manifest))


FORGED = {
    "schema": (lambda m: m.update(schema=7), "manifest.json: schema: got 7; expected 1"),
    "kind": (lambda m: m.update(kind="walk"), "kind: got walk"),
    "a segment elsewhere": (lambda m: m["segments"][0].update(first="../../x"), "manifest.json: segments"),
    "a segment that is not there": (lambda m: m["segments"][0].update(last=1), "observations/.*: file: it is missing"),
    "a larger step": (lambda m: m.update(step=99), "checkpoints/0000000099/index.json: file: it is missing"),
    "a negative step": (lambda m: m.update(step=-1), "manifest.json: step: got -1"),
    "no legs": (lambda m: m["configuration"].update(legs=[]), "manifest.json: configuration"),
    "one field more": (lambda m: m.update(path="/etc/passwd"), "manifest.json: fields"),
    "other observers": (lambda m: m["configuration"]["legs"][0]["observers"].pop("pairs"), "manifest.json: configuration: got the observers"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_manifest_that_makes_no_sense_is_refused(name, tmp_path):
    eq.store.save(begun("schedule", 2), tmp_path)
    change, said = FORGED[name]
    signed(tmp_path, change)
    with pytest.raises(ValueError, match=said):
        eq.load(tmp_path)


def test_no_link_is_followed(tmp_path):
    eq.store.save(begun("schedule", 2), tmp_path / "run")
    for path in sorted((tmp_path / "run").rglob("*")):
        away = tmp_path / "away"
        path.rename(away)
        path.symlink_to(away)
        with pytest.raises(eq.store.Damaged, match="is a link"):
            eq.load(tmp_path / "run")
        path.unlink()
        away.rename(path)
    assert eq.load(tmp_path / "run").step == 2


JUNK = [None, -1, 0, 1, 2**60, 1.5, "x", "../../etc", [], {}, True, [1], {"a": 1}, "threefry2x32"]


def changed(content, rng):
    """Some place in a JSON document gets something else."""
    places = []

    def walk(node):
        for at in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, at))
            walk(node[at])

    walk(content)
    node, at = places[rng.integers(len(places))]
    node[at] = JUNK[rng.integers(len(JUNK))]
    return content


@pytest.mark.filterwarnings("ignore:the run was made elsewhere")
@pytest.mark.parametrize("what", ["manifest", "index", "records"])
@pytest.mark.parametrize("num", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_is_signed_but_makes_no_sense_is_refused_or_harmless(what, num, tmp_path):
    """Whoever forges a folder can forge its checksums."""
    eq.store.save(begun("schedule", 3), tmp_path)
    rng, place, archive = np.random.default_rng(0), tmp_path / "checkpoints" / "0000000003", next((tmp_path / "observations").iterdir())
    index, records, manifest = (place / "index.json").read_text(), archive.read_bytes(), (tmp_path / "manifest.json").read_bytes()
    said = set()
    for k in range(num):
        (tmp_path / "manifest.json").write_bytes(manifest)
        if what == "manifest":
            signed(tmp_path, lambda m: changed(m, rng))
        elif what == "index":
            text = _tree._text(changed(json.loads(index), rng))
            (place / "index.json").write_bytes(text)
            (place / "complete").write_bytes(_tree._marker(text))
            signed(tmp_path, lambda m, text=text: m.update(checkpoint=_files.digest(text)))
        else:
            entries = _zarr.unpack("", records)
            name = sorted(name for name in entries if name.endswith(_zarr.META))[rng.integers(sum(name.endswith(_zarr.META) for name in entries))]
            text = _zarr.pack(entries | {name: _zarr._text(changed(json.loads(entries[name]), rng))})
            archive.write_bytes(text)
            signed(tmp_path, lambda m, text=text: m["segments"][0].update(bytes=len(text), sha256=_files.digest(text)))
        try:
            run = eq.load(tmp_path) if k % 2 else loaded("schedule", tmp_path)
            said.add(run.step)
        except ValueError as error:
            said.add(type(error))
    assert eq.store.Damaged in said


LIES = {
    "more than there is": ("shape", [2**40], "w.*got 24 bytes at 0; expected"),
    "negative": ("shape", [-3], r"got the shape \[-3\]"),
    "elsewhere": ("offset", 8, "bytes at 8; expected 24 at 0"),
    "of objects": ("dtype", "object", "got the entry"),
    "of a key without a name": ("kind", "key", "got the entry"),
}


@pytest.mark.parametrize("name", LIES)
def test_sizes_are_held_against_each_other_before_there_is_room_for_them(name, tmp_path):
    field, value, said = LIES[name]
    _tree.write(tmp_path / "t", {"w": np.ones(3)})
    index = json.loads((tmp_path / "t" / "index.json").read_text())
    index["leaves"][0][field] = value
    text = _tree._text(index)
    (tmp_path / "t" / "index.json").write_bytes(text)
    (tmp_path / "t" / "complete").write_bytes(_tree._marker(text))
    with pytest.raises(eq.store.Damaged, match=said):
        _tree.read(tmp_path / "t")


def test_folders_that_are_no_runs(tmp_path):
    run = begun("tree", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for folder, said in ((tmp_path / "mine", "holds thesis.tex and is no run folder"), (tmp_path / "mine" / "thesis.tex", "which is a file")):
        with pytest.raises(ValueError, match=said):
            eq.store.save(run, folder)
        with pytest.raises(ValueError, match=r"has no manifest\.json"):
            eq.load(folder)
    eq.store.save(run, tmp_path / "run")
    rule, x0, options = ingredients("tree")
    for other, said in (
        (begun("tree", 1), "holds 2 steps; got a run that left it at step 1"),
        (eq.simulate(rule, x0, num_steps=5, **{**options, "eta": 0.2}), "with another eta from step 0"),
        (eq.simulate(rule, begun("tree", 1), num_steps=5, **{**options, "eta": 0.2}), "that left it at step 1"),
        (begun("narrow", 3), "holds a run with x"),
    ):
        with pytest.raises(ValueError, match=said):
            eq.store.save(other, tmp_path / "run")
    eq.store.save(begun("tree", 3), tmp_path / "run")
    assert eq.load(tmp_path / "run").step == 3


def test_a_sweep_is_loaded_by_those_who_made_it(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "sweep"}))
    monkeypatch.setitem(sys.modules, "eqdyn._sweep", types.SimpleNamespace(dataset_of=lambda folder: ("a sweep", folder)))
    assert eq.load(str(tmp_path)) == ("a sweep", tmp_path)
    with pytest.raises(ValueError, match="which holds a sweep"):
        eq.store.save(begun("narrow", 1), tmp_path)


# --- damage ----------------------------------------------------------------------------------------------------------------


def damaged_copies(folder, rng, num, cut):
    """Bit flips or truncations over all files, as many of each as of its name's turn; yields the file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for k in range(num):
        path = paths[k % len(paths)]
        good = path.read_bytes()
        if cut:
            bad = good[: rng.integers(len(good))]
        else:
            at, bad = int(rng.integers(len(good))), bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        yield path.relative_to(folder).as_posix()
        path.write_bytes(good)


@pytest.mark.parametrize(("flips", "cuts"), [(200, 60), pytest.param(1000, 300, marks=pytest.mark.slow)])
def test_every_flipped_bit_and_every_cut_is_found(flips, cuts, tmp_path):
    eq.store.save(begun("schedule", 3), tmp_path)
    eq.store.save(begun("schedule", 5), tmp_path)
    rng = np.random.default_rng(0)
    for num, cut in ((flips, False), (cuts, True)):
        for name in damaged_copies(tmp_path, rng, num, cut):
            with pytest.raises(ValueError, match=r"^\S+: .+: ") as found:
                loaded("schedule", tmp_path)
            told = found.value
            if isinstance(told, eq.store.Damaged):
                beside = {"complete": "complete", "index.json": "complete"}
                assert name in (told.file, told.file.replace("complete", "index.json")) or name.rsplit("/", 1)[-1] in beside, (name, str(told))
                assert told.field
            else:
                assert name == "manifest.json", (name, str(told))
                assert "schema" in str(told)
    assert loaded("schedule", tmp_path).step == 5


def test_rules_of_other_numbers_have_other_names():
    for make in (optax.adam, lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(rate, 20)))):
        names = [_describe.named(eq.rules.from_optax(make(rate), stored.squares)) for rate in (0.1, 0.1, 0.2)]
        assert names[0] == names[1] != names[2]
    for make, takes_data in (*RULES.values(), *KEYED.values(), *ADAPTED.values()):
        assert _describe.named(make()) == _describe.named(make()), takes_data
