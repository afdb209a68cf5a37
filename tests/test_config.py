"""Configurations and their commands: what is wrong is said with its key and line; what is right runs, and goes on when started again."""

import json
import re

import numpy as np
import pytest

import eqdyn as eq
from eqdyn import cli, plot_phase
from eqdyn.config import Config, ConfigError

xarray = pytest.importorskip("xarray")

SWEEP = """\
# widths, step sizes in units of 1/width, seeds
num_steps = 8
eta_per = "start.num"

[rule]
name = "gradient"
loss = "regression"

[start]
name = "start_2d"

[data]
name = "teacher"
num_examples = 100
batch = 16

[observe]
certificate = {}

[grid]
"start.num" = [8, 12]
eta = { first = 0.5, last = 40.0, num = 4, scale = "log" }
seed = 2
"""
RUN = """\
num_steps = 30
eta = 0.01
save_every = 10

[rule]
name = "heavy_ball"
loss = "regression"
beta = 0.9

[start]
name = "start_2d"
num = 16

[data]
name = "teacher"
num_examples = 100

[observe]
certificate = {}
betti = { stride = 10, max_dim = 1 }
"""


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    import jax

    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def written(tmp_path, text, name="config.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_sweep_is_what_the_function_gives(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["sweep", str(written(tmp_path, SWEEP)), "--out", str(out), "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "forecast: " in said
    assert "16 points over start_num (2), eta (4), seed (2)" in said
    found = eq.load(out / "sweep")
    assert found["status"].shape == (2, 4, 2)
    assert (out / "phases.png").stat().st_size > 5000
    summary = json.loads((out / "summary.json").read_text())
    assert sum(summary[f"points/{name}"] for name in plot_phase.PHASES) == 16
    assert summary["points/diverged"] == int(np.sum(found["status"].values != "ok"))
    stamp = (out / "sweep" / "cells" / "000000" / "complete").stat().st_mtime_ns
    assert cli.main(["sweep", str(tmp_path / "config.toml"), "--out", str(out), "--no-progress"]) == 0
    assert (out / "sweep" / "cells" / "000000" / "complete").stat().st_mtime_ns == stamp, "started again it goes on where it was"
    assert cli.main(["report", str(out), "--out", str(tmp_path / "report")]) == 0
    assert json.loads((tmp_path / "report" / "summary.json").read_text()) == summary
    lines = plot_phase.thresholds(found)
    np.testing.assert_allclose(lines["2/lambda_max"], 2 * lines["1/lambda_max"])


def test_a_run_goes_on_where_it_was(tmp_path, capsys):
    pytest.importorskip("zarr")
    out = tmp_path / "out"
    short = written(tmp_path, RUN.replace("num_steps = 30", "num_steps = 10"))
    assert cli.main(["run", str(short), "--out", str(out), "--no-progress"]) == 0
    assert cli.main(["run", str(written(tmp_path, RUN)), "--out", str(out), "--no-progress"]) == 0
    whole = tmp_path / "whole"
    assert cli.main(["run", str(tmp_path / "config.toml"), "--out", str(whole), "--no-progress"]) == 0
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in (out, whole))
    assert a == b
    assert a["steps"] == 30
    np.testing.assert_array_equal(eq.load(out / "run").x, eq.load(whole / "run").x)
    capsys.readouterr()
    assert cli.main(["report", str(out), "--out", str(tmp_path / "report")]) == 0
    assert "30 steps of (16, 2)" in capsys.readouterr().out


# what is changed in a good file, and what is said of it: the line is that of the key
BAD = [
    (SWEEP, "num_steps = 8", "num_step = 8", r"line 2: num_step: got a key that is not known; did you mean 'num_steps'\?"),
    (SWEEP, "num_steps = 8", "num_steps = -8", "line 2: num_steps: got -8; expected a whole number >= 1"),
    (SWEEP, "num_steps = 8", "num_steps = true", "line 2: num_steps: got True"),
    (SWEEP, "num_steps = 8\n", "", "num_steps: is missing"),
    (SWEEP, '"gradient"', '"gradiant"', "line 6: rule.name: got 'gradiant'; expected one of adam"),
    (SWEEP, 'loss = "regression"\n', "", "line 5: rule.loss: is missing; gradient descends a loss"),
    (SWEEP, '"regression"', '"regresion"', "line 7: rule.loss: got 'regresion'"),
    (SWEEP, 'loss = "regression"', 'loss = "regression"\nbeta = 0.9', "line 8: rule.beta: got a key that is not known"),
    (SWEEP, '"start_2d"', '"circel"', "line 10: start.name: got 'circel'"),
    (SWEEP, '"teacher"', '"imagenet"', "line 13: data.name: got 'imagenet'; expected one of teacher"),
    (SWEEP, "certificate = {}", "certificat = {}", "line 18: observe.certificat"),
    (SWEEP, "certificate = {}", "certificate = { strid = 2 }", "line 18: observe.certificate"),
    (SWEEP, '"start.num" = [8, 12]', '"start.nmu" = [8, 12]', "line 21: grid.start.nmu: start_2d takes no 'nmu'"),
    (SWEEP, '"start.num" = [8, 12]', "width = [8, 12]", "line 21: grid.width: expected eta, seed, or an argument"),
    (SWEEP, '"start.num" = [8, 12]', '"start.num" = []', r"line 21: grid.start.num: got \[\]"),
    (SWEEP, "num = 4", "count = 4", "line 22: grid.eta"),
    (SWEEP, 'eta_per = "start.num"', 'eta_per = "rule.beta"', "line 3: eta_per: got 'rule.beta'"),
    (SWEEP, "[data]", "[data", "expected TOML"),
    (SWEEP, "[grid]", "[gird]", "line 20: gird: got a key that is not known; did you mean 'grid'"),
    (RUN, "eta = 0.01", 'eta = "fast"', "line 2: eta: got 'fast'; expected a number"),
    (RUN, "num = 16", "num = 16\n[grid]\nseed = 2", "line 13: grid: got a grid; expected none"),
]


@pytest.mark.parametrize(("text", "old", "new", "words"), BAD)
def test_what_is_wrong_is_said_with_its_line(text, old, new, words, tmp_path, capsys):
    assert text.count(old) >= 1
    path = written(tmp_path, text.replace(old, new, 1))
    command = "sweep" if text is SWEEP else "run"
    assert cli.main([command, str(path), "--out", str(tmp_path / "out"), "--no-progress"]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(words, said), said
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert cli.main(["run", str(tmp_path / "nowhere.toml")]) == 2
    assert "could not be read" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        Config(tmp_path / "nowhere.toml")


@pytest.mark.slow
def test_more_than_there_is_is_refused(tmp_path, capsys):
    path = written(tmp_path, SWEEP)
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out"), "--no-progress", "--seconds", "1e-9"]) == 2
    assert "seconds: got a sweep of about" in capsys.readouterr().err
    assert not (tmp_path / "out" / "sweep").exists()


def test_the_picture_shows_every_phase():
    status = np.array([["ok", "ok", "diverged"], ["ok", "ok", "nonfinite"]])
    found = xarray.Dataset(
        {"status": (("seed", "eta"), status), "l_merged": (("seed", "eta"), [[0, 1, 0], [0, 0, 0]]), "l_could_merge": (("seed", "eta"), [[0, 1, 1], [0, 1, 1]])},
        {"seed": [0, 1], "eta": [0.1, 0.2, 0.3]},
    )  # fmt: skip
    assert plot_phase.phases(found).tolist() == [[0, 2, 3], [0, 1, 3]]
    fig = plot_phase.phase_diagram(found, title="t")
    assert fig.axes[0].get_xlabel() == "step size eta ([eta])"
    with pytest.raises(ValueError, match="'eta' among them"):
        plot_phase.phase_diagram(found.isel(eta=0))
