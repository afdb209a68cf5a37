"""What is shown to people runs: docstrings, the README, notebooks, the demo, the benchmarks."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import USERS_FLAGS

import eqdyn as eq
from eqdyn import cli

ROOT = Path(__file__).parent.parent
MODULES = [info.name for info in pkgutil.walk_packages(eq.__path__, "eqdyn.") if not info.name.endswith("__main__")]


def users_environment():
    """Of a user's process, without the strictness of the tests and with XLA's own optimisation."""
    return {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | ({"XLA_FLAGS": USERS_FLAGS} if USERS_FLAGS else {})


def command(*arguments, **options):
    """`env=None`: that of the tests."""
    options = {"cwd": ROOT, "env": users_environment(), **options}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float32", "float64, strictly"])
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, strict):
    """As a user has it, in float32; once more strictly, in float64."""
    if ".adapters." in name:
        pytest.importorskip({"nnx": "flax"}.get(name.rsplit(".", 1)[1], name.rsplit(".", 1)[1]))
    module = importlib.import_module(name)
    with jax.enable_x64(strict), jax.numpy_dtype_promotion("strict" if strict else "standard"):
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_examples_in_the_readme():
    text = (ROOT / "README.md").read_text()
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        test = doctest.DocTestParser().get_doctest(text, {}, "README", "README.md", 0)
        assert len(test.examples) >= 5
        failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert failed == 0


def test_every_public_function_stands_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for room in ("rules", "measure", "observe", "shapes", "topology", "networks", "store", "parallel", "covariant", "partition", "paths"):
        for name in getattr(eq, room).__all__:
            if name[0].islower():
                assert f"{room}.{name}" in text, f"{room}.{name}"


def test_nothing_names_a_registry_or_a_machine_path():
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, cwd=ROOT, check=True)
    for name in names.stdout.split():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".ipynb", "") and path.is_file():
            assert not re.search(r"pypi\.|index-url|/home/\w|/root/|/work/", path.read_text().replace(Path(__file__).name, "")) or path == Path(
                __file__
            ), name


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_demo(quick, tmp_path):
    """One run of the main job, looked at from four sides."""
    out = tmp_path / "out"
    done = command("-m", "eqdyn", "demo", "--out", out, *(["--quick"] if quick else []), **({"env": None} if quick else {}))
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    print(f"demo: {summary['seconds']} s")
    demo = out, done.stdout, summary
    writes_its_table_pictures_and_summary(demo, ("consensus",) if quick else ("gradient", "heavy ball", "Adam", "consensus", "self-attention"))
    tells_the_two_steps_apart_by_the_constant_over_pairs(demo)
    if not quick:
        says_in_words_what_happened_to_the_neurons(demo)


def writes_its_table_pictures_and_summary(demo, rules):
    out, text, summary = demo
    assert {path.name for path in out.iterdir()} == {"network2d.png", "network2d_constants.png", "digits.png", "summary.json"}
    for path in out.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 20_000
    for name in rules:
        assert {summary[f"laws/{name}/{law}"] for law in ("P1", "Lemma 1", "Lemma 2", "Merge law")} == {"holds"}
    assert summary["laws/BROKEN: rate grows with the index/P1"] == "fails"
    assert "Replay of the broken rule" in text
    assert all(not isinstance(value, (dict, list)) for value in summary.values()), "flat"


def tells_the_two_steps_apart_by_the_constant_over_pairs(demo):
    _, _, summary = demo
    small, large = (
        {key.split("/")[2]: value for key, value in summary.items() if key.startswith(f"network2d/{name}/")} for name in ("small", "large")
    )
    assert small["max_eta_k_pair"] < 1 < large["max_eta_k_pair"]
    assert small["eta_lambda_max_start"] > 2
    assert large["eta_lambda_max_start"] > 2
    assert small["status"] == large["status"] == "ok"
    assert small["steps_not_certified"] == 0
    assert 1 <= large["steps_not_certified"] < 100


def says_in_words_what_happened_to_the_neurons(demo):
    _, text, summary = demo
    for name in ("small", "large"):
        facts = {key.split("/")[2]: value for key, value in summary.items() if key.startswith(f"digits/{name}/")}
        assert facts["test_accuracy"] > 0.8
        assert [facts[f"betti_start_{k}"] for k in range(3)] == [1, 0, 1]
        assert facts["max_eta_k_pair"] < 1
        assert facts["stretch_low"] > 0.5
        assert facts["merges"] == 0
    assert text.count("steps that were looked at could merge two neurons (eta*K_pair < 1)") == 2
    assert [summary[f"digits/small/betti_end_{k}"] for k in range(3)] == [1, 0, 1]
    assert [summary[f"digits/large/betti_end_{k}"] for k in range(3)] != [1, 0, 1]
    assert summary["digits/large/stretch_low_ever"] > 0.9
    assert "unevenly, and that scale with them" in text


def test_what_happened_follows_the_facts():
    from eqdyn.demo import what_happened

    facts = {"status": "ok", "merges": 0, "max_eta_k_pair": 0.1, "stretch_low": 0.9, "stretch_low_ever": 0.9, "stretch_high": 7.0}
    kept, changed = (1, 0, 1), (3, 0, 0)
    assert "still seen" in what_happened(facts, kept, kept, 5)
    assert "unevenly" in what_happened(facts, kept, changed, 5)
    assert "Not every step" in what_happened({**facts, "max_eta_k_pair": 2.0}, kept, kept, 5)
    assert "unevenly" not in what_happened({**facts, "max_eta_k_pair": 2.0}, kept, changed, 5)
    assert "4 neurons merged" in what_happened({**facts, "merges": 4}, kept, changed, 5)
    assert "unevenly" not in what_happened({**facts, "merges": 4}, kept, changed, 5)
    assert "ended early: nonfinite" in what_happened({**facts, "status": "nonfinite"}, kept, kept, 5)


def test_doctor_tells_versions_devices_dtype_and_threads(tmp_path):
    done = command("-m", "eqdyn", "doctor", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("jax ", "numpy", "ripser", "devices", "default dtype", "threads", "XLA", "float32"):
        assert word in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["jax"] == jax.__version__


OWN = """
import jax.numpy as jnp
import eqdyn as eq

rule = eq.rules.consensus()
def make(): return eq.rules.consensus(rate=2.0)
def swarm(x): return x.mean(0) - x
def hasty(x): return jnp.roll(x, 1, axis=0) - x
def wrong(x): return x.nothing
def shape(x): return x[:1]
def silent(x): raise NotImplementedError
def array(): return jnp.ones(3)
number = 3
x = eq.shapes.circle(16, key=__import__("jax").random.key(0)).points
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--seed", "-1"],
        ["demo", "--out", "mine.py"],
        ["walk"],
        [],
        ["demo", "--speed", "3"],
        ["check"],
        ["check", "mine"],
        ["check", "yours:rule"],
        ["check", "mine:flock"],
        ["check", "mine:number"],
        ["check", "mine:wrong"],
        ["check", "mine:shape"],
        ["check", "mine:silent"],
        ["check", "mine:array"],
        ["check", "mine:rule", "--num", "1"],
        ["check", "mine:rule", "--eta", "-1"],
        ["check", "mine:rule", "--K", "nan"],
        ["check", "mine:rule", "--x", "mine:number"],
        ["check", "mine:rule", "--out", "mine.py"],
    ],
)
def test_a_users_mistake_is_one_line_with_status_two(arguments, own, monkeypatch, capsys):
    monkeypatch.chdir(own)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.syspath_prepend(str(own))
    try:
        status = cli.main(arguments)
    except SystemExit as ended:  # of argparse
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2, said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()[-1]) > 20


def test_a_users_mistake_from_the_shell(own):
    done = command("-m", "eqdyn", "check", "mine:wrong", cwd=own)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["mine:rule", "--float64", "--K", "1", "--out", "out"], 0, "P2-K                  not refuted"),
        pytest.param(["mine:swarm", "--x", "mine:x"], 0, "mine:swarm: no law fails.", marks=pytest.mark.slow),
        pytest.param(["mine:make", "--K", "1", "--num", "16", "--dim", "2"], 1, "Merge law fails at draw", marks=pytest.mark.slow),
        pytest.param(["mine:hasty", "--draws", "8"], 1, "P1 fails at draw", marks=pytest.mark.slow),
    ],
)
def test_check_on_ones_own_rule(arguments, status, said, own):
    done = command("-m", "eqdyn", "check", *arguments, cwd=own, env=None)  # at the optimisation of the tests: compiling is most of it
    assert done.returncode == status, done.stderr
    assert said in done.stdout, done.stdout
    if "--out" in arguments:
        summary = json.loads((own / "out" / "summary.json").read_text())
        assert summary["holds"] is True
        assert summary["P2-K/verdict"] == "not refuted"
        assert summary["dtype"] == "float64"
        assert all(not isinstance(value, (dict, list)) for value in summary.values()), "flat"
        assert "<table>" in (own / "out" / "laws.html").read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["check", "--help"], ["doctor", "--help"]])
def test_help(arguments):
    done = command("-m", "eqdyn", *arguments)
    assert done.returncode == 0
    assert "usage: python3 -m eqdyn" in done.stdout


LONG = {
    "01_start",
    "02_laws",
    "03_critical",
    "04_topology",
    "05_paper",
    "06_your_network",
    "07_phase_diagrams",
    "08_noise_and_metric",
    "09_partitions",
    "10_paths",
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else []) for path in NOTEBOOKS])
def test_notebooks_run(path, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    client = nbclient.NotebookClient(notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    # checks are mostly compiled, training is mostly run
    client.execute(env=(os.environ if path.stem in ("01_start", "02_laws") else users_environment()) | {"EQDYN_NOTEBOOK_STEPS": "270"})
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


# what each script needs to be quick, and the column of its rows that has to be finite; those beside the first two take long, or need data
BENCHMARKS = {
    "simulate": (["--repeats", "1"], "steps per second"),
    "laws": (["--repeats", "1"], "seconds"),
    "critical": (["--repeats", "1"], None),
    "guard": (["--repeats", "1"], None),
    "exponents": (["--repeats", "1"], None),
    "paper_2d": ([], None),
    "paper_mnist": (["--epochs", "0"], None),
    "mnist_topology": (["--epochs", "2", "--width", "128"], None),
    "topology": ([], None),
    "watching": ([], None),
    "monitor": (["--repeats", "1"], None),
    "beyond": ([], None),
    "pipeline": (["--epochs", "2", "--width", "128"], None),
    "scale": (["--repeats", "1"], None),
    "kill": (["--kills", "2", "--rounds", "1"], None),
    "memory": (["--rows", "1"], None),
    "executors": (["--steps", "3", "--cells", "2", "--repeats", "1"], None),
    "phase_diagram": (["--etas", "3", "--seeds", "2", "--steps", "27"], None),
    "covariant": ([], None),
    "covariant_problems": ([], None),
    "partition_regularise": ([], None),
    "partition_along": (["--etas", "1", "16", "--seeds", "1", "--steps", "40"], None),
    "partition": ([], None),
    "paths": (["--repeats", "1"], None),
    "paths_claims": (
        ["--images", "300", "--epochs", "2", "--seeds", "1", "--num", "5", "--planes", "1", "--grid", "7", "--starts", "1", "--moon-steps", "40"],
        None,
    ),
    "paths_transfer": (["--quick"], None),
    "alpha_eta": (["--alphas", "2", "--etas", "3", "--seeds", "1", "--steps", "27"], None),
}
LIBRARIES = {"common", "curvature", "partition_peers", "partition_rows", "paths_runs", "paths_tasks", "paths_verdicts"}


def test_every_benchmark_is_run():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == set(BENCHMARKS) | LIBRARIES


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_run_and_write_what_they_measured(name, tmp_path):
    needs = "mnist" in name or name in ("pipeline", "paths_claims", "paths_transfer")
    if needs and not os.environ.get("EQDYN_DATA"):
        pytest.skip("EQDYN_DATA is not set")
    options, column = BENCHMARKS[name]
    script = ROOT / "benchmarks" / f"{name}.py"
    quick = ["--quick"] if not needs and re.search(r"--quick|common\.arguments", script.read_text()) else []
    done = command(script, *quick, *options, "--out", tmp_path / "out.json", env=None)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["machine"]["cores"] >= 1
    shown = found.get("rows", found.get("table"))
    tables = shown.values() if isinstance(shown, dict) else [shown]
    for rows in tables:
        assert rows
        if column:
            measured = column if column in rows[0] else "seconds"
            assert all(np.isfinite(row[measured]) for row in rows)
            assert any("bound" in row["row"] for row in rows) or all("bound: U alone" in row for row in rows)
