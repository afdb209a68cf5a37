"""The house: imports go down, nothing is started at import, every public name is there and says what it is."""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import random
import subprocess
import sys
from pathlib import Path

import pytest

import eqdyn as eq

ROOT = Path(eq.__file__).parent
FLOORS = {
    0: ["_types", "_checks", "_value", "_mesh"],
    1: [
        "shapes",
        "_idx",
        "data",
        "_branch",
        "_differences",
        "_scan",
        "_near",
        "_screen",
        "_round",
        "_tiles",
        "parallel",
        "geometry",
        "linalg",
        "_folding",
        "groups",
    ],
    2: ["rule", "field", "observer", "rules"],
    3: ["_chunk", "_legs", "_run", "_start", "_ready", "_simulate", "_lifted", "_twins", "transverse", "_exponent", "measure", "topology"],
    4: ["_ask", "laws", "_verdicts", "_check", "_precise", "_floor", "_inequalities", "_critical", "_certify"],
    5: ["observe", "_guard", "_flow", "_controls", "_compare", "store", "_sweeps", "_sweep"],
    6: ["networks", "covariant", "partition", "paths"],
    7: [
        "plot",
        "plot_critical",
        "plot_folds",
        "plot_topology",
        "plot_phase",
        "plot_partition",
        "plot_paths",
        "demo",
        "reproduce",
        "check_command",
        "config",
        "run_command",
        "cli",
        "__main__",
    ],
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
MODULES = sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in ROOT.rglob("*.py") if path.name != "__init__.py")
# within a floor, who may know whom
NEIGHBOURS = {
    ("field", "rule"),
    ("rules", "field"),
    ("rules", "rule"),
    ("_run", "_chunk"),
    ("_start", "_chunk"),
    ("_start", "_run"),
    ("_simulate", "_chunk"),
    ("_simulate", "_legs"),
    ("_simulate", "_run"),
    ("_simulate", "_ready"),
    ("_ready", "_chunk"),
    ("_ready", "_legs"),
    ("_ready", "_run"),
    ("_ready", "_start"),
    ("_sweeps", "observe"),
    ("_sweeps", "store"),
    ("_sweep", "_sweeps"),
    ("plot_phase", "plot"),
    ("config", "check_command"),
    ("run_command", "config"),
    ("run_command", "plot"),
    ("run_command", "plot_phase"),
    ("cli", "run_command"),
    ("_scan", "_differences"),
    ("_screen", "_differences"),
    ("_near", "_differences"),
    ("geometry", "_differences"),
    ("geometry", "_scan"),
    ("geometry", "_near"),
    ("geometry", "_screen"),
    ("geometry", "_round"),
    ("_round", "_differences"),
    ("_round", "_screen"),
    ("_mesh", "_types"),
    ("data", "_idx"),
    ("_twins", "_lifted"),
    ("transverse", "_lifted"),
    ("measure", "_lifted"),
    ("measure", "_twins"),
    ("measure", "transverse"),
    ("_critical", "_precise"),
    ("_critical", "_floor"),
    ("_critical", "_inequalities"),
    ("_inequalities", "_precise"),
    ("_controls", "_flow"),
    ("laws", "_ask"),
    ("_verdicts", "laws"),
    ("_check", "_ask"),
    ("_check", "laws"),
    ("_check", "_verdicts"),
    ("demo", "plot"),
    ("reproduce", "plot"),
    ("cli", "reproduce"),
    ("cli", "demo"),
    ("__main__", "cli"),
    ("_checks", "_types"),
}


def imported(path):
    """The eqdyn modules that a file names when it is imported (not those that functions load when they run)."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "eqdyn":
            parts = node.module.split(".")
            yield from ([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("eqdyn."))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    room = module.split(".")[0]
    for other in imported(ROOT / (module.replace(".", "/") + ".py")):
        assert other in FLOOR, f"{module} imports {other}, which has no floor"
        if other != room:
            assert FLOOR[other] < FLOOR[room] or (room, other) in NEIGHBOURS, f"{module} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"


def test_every_room_has_a_floor_and_no_file_imports_the_top():
    assert {module.split(".")[0] for module in MODULES} == set(FLOOR)
    for path in ROOT.rglob("*.py"):
        top = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import) and any(a.name == "eqdyn" for a in node.names)]
        assert not top or path.name == "cli.py", path


PUBLIC = [
    "Rule",
    "Rule.init",
    "Rule.update",
    "Rule.probe",
    "Rule.lift",
    "Update",
    "Weighted",
    "Group",
    "Group.particles",
    "Group.with_particles",
    "Group.permute",
    "Observer",
    "Frame",
    "step",
    "simulate",
    "Run",
    "Batches",
    "check",
    "assert_lawful",
    "Report",
    "laws",
    "laws.LAWS",
    "Law",
    "compile_count",
    "lifted",
    "Interrupted",
    "critical",
    "Critical",
    "Critical.stretch",
    "Critical.summary",
    "Constant",
    "certify",
    "Certificate",
    "guard",
    "GuardState",
    "compare",
    "Comparison",
    "controls",
    "Control",
    "transverse",
    "transverse.step_map",
    "measure.swap_curvature",
    "measure.transverse",
    "measure.lifted_map",
    "measure.lifted_constants",
    "measure.crossings",
    "measure.collapse",
    "measure.closest",
    "measure.mesh_change",
    "measure.folds",
    "measure.fold_eta",
    "measure.frozen",
    "measure.tangent_stretch",
    "observe.certificate",
    "observe.Ledger",
    "observe.transverse",
    "observe.lyapunov",
    "observe.density",
    "observe.closest",
    "field.additive",
    "data.mnist",
    "bind",
    "rules",
    "rules.gradient",
    "rules.heavy_ball",
    "rules.adam",
    "rules.adam_delayed",
    "rules.consensus",
    "rules.self_attention",
    "rules.nesterov",
    "rules.rmsprop",
    "rules.adamw",
    "rules.sign_descent",
    "rules.lion",
    "rules.weight_decay",
    "rules.attraction_repulsion",
    "rules.hegselmann_krause",
    "rules.stein",
    "rules.kuramoto",
    "rules.wasserstein_flow",
    "rules.langevin",
    "rules.from_function",
    "rules.from_optax",
    "rules.from_field",
    "shapes",
    "shapes.figure_eight",
    "shapes.sphere",
    "shapes.circle",
    "shapes.clusters",
    "shapes.two_circles",
    "shapes.trefoil",
    "shapes.disc",
    "shapes.annulus",
    "shapes.swiss_roll",
    "shapes.torus",
    "shapes.double_torus",
    "shapes.handlebody",
    "shapes.sphere_circle",
    "shapes.start_2d",
    "shapes.start_2d_two_circles",
    "shapes.start_3d",
    "shapes.start_mnist",
    "shapes.embed",
    "shapes.jitter",
    "shapes.mesh",
    "shapes.mesh.circle",
    "shapes.mesh.figure_eight",
    "shapes.mesh.two_circles",
    "shapes.mesh.trefoil",
    "shapes.mesh.disc",
    "shapes.mesh.annulus",
    "shapes.mesh.swiss_roll",
    "shapes.mesh.sphere",
    "shapes.mesh.torus",
    "shapes.mesh.double_torus",
    "measure",
    "measure.equivariance",
    "measure.pair_constants",
    "measure.pair_terms",
    "measure.stretch",
    "measure.sharpness",
    "measure.atoms",
    "measure.merges",
    "observe",
    "observe.atoms",
    "observe.pair_constants",
    "observe.merges",
    "observe.stretch",
    "observe.regime",
    "observe.sharpness",
    "observe.configuration",
    "observer.recorder",
    "topology",
    "topology.betti",
    "topology.betti_of_distances",
    "topology.betti_along",
    "topology.persistence",
    "topology.persistence_of_distances",
    "topology.forecast",
    "topology.distance",
    "topology.certified_bars",
    "topology.betti_bound",
    "topology.log_bottleneck_bound",
    "topology.persistent_betti",
    "topology.change",
    "topology.mesh_betti",
    "topology.sublevel_grid",
    "topology.sublevel_graph",
    "topology.paper_recipe",
    "topology.Diagram",
    "topology.LocalScale",
    "topology.NeighbourScale",
    "load",
    "store.save",
    "sweep",
    "forecast",
    "kept",
    "Forecast",
    "observe.tracer_curve",
    "store.run",
    "store.load",
    "store.Damaged",
    "Run.resume",
    "observe.betti",
    "observe.persistence",
    "covariant",
    "covariant.bowl",
    "covariant.bowl.stationary",
    "covariant.coordinates",
    "covariant.descent",
    "covariant.exponent",
    "covariant.fokker_planck",
    "covariant.in_metric",
    "covariant.interpolation",
    "covariant.interpolation.crossovers",
    "covariant.interpolation.local_exponent",
    "covariant.interpolation.metric",
    "covariant.madelung",
    "covariant.metric",
    "covariant.metric_exponent",
    "covariant.rule",
    "covariant.sphericity",
    "covariant.wright_fisher",
    "covariant.wright_fisher.increment_covariance",
    "covariant.wright_fisher.metric",
    "covariant.wright_fisher.simulate",
    "partition",
    "partition.along",
    "partition.angle_defect",
    "partition.bending",
    "partition.build",
    "partition.chebyshev",
    "partition.complex_of",
    "partition.diagnose",
    "partition.gram",
    "partition.halfspaces",
    "partition.hit_and_run",
    "partition.local",
    "partition.mass_balance",
    "partition.mean_curvature",
    "partition.nearest_by_crossed",
    "partition.of_cells",
    "partition.one_ring",
    "partition.pieces",
    "partition.pullback",
    "partition.ricci_forman",
    "partition.ricci_ollivier",
    "partition.ricci_ollivier_points",
    "partition.ridges",
    "partition.sharp_angles",
    "partition.small_cells",
    "partition.smooth",
    "partition.spline",
    "partition.volume_growth",
    "paths",
    "paths.Budget",
    "paths.Elastic",
    "paths.Path",
    "paths.Thresholds",
    "paths.affine",
    "paths.align",
    "paths.area",
    "paths.average",
    "paths.ball",
    "paths.barrier",
    "paths.barriers",
    "paths.cka",
    "paths.classes",
    "paths.compose",
    "paths.contrast",
    "paths.from_run",
    "paths.identity",
    "paths.length",
    "paths.matching",
    "paths.merge_tree",
    "paths.path",
    "paths.permuted",
    "paths.planes",
    "paths.predicts",
    "paths.procrustes",
    "paths.reparametrise",
    "paths.representations",
    "paths.shared_representation",
    "paths.sheet",
    "paths.two_cell",
    "paths.violation_rate",
    "paths.transfer",
    "paths.transport",
    "networks",
    "networks.adapters",
    "networks.find_groups",
    "networks.verify",
    "networks.compress",
    "networks.effective_width",
    "networks.Monitor",
    "networks.monitor",
    "networks.two_layer",
    "field",
    "field.energy",
    "field.mean_field",
    "field.pair_kernel",
    "parallel",
    "parallel.mesh",
    "parallel.shard",
    "parallel.gather",
    "groups",
    "groups.from_axes",
    "data",
    "data.digits",
    "data.teacher",
]


def test_public_names_are_found_after_importing_everything_in_random_order():
    names = [info.name for info in pkgutil.walk_packages(eq.__path__, "eqdyn.") if not info.name.endswith("__main__")]
    random.Random(0).shuffle(names)
    for name in names:
        importlib.import_module(name)
    for name in PUBLIC:
        found = eq
        for part in name.split("."):
            found = getattr(found, part)


def test_what_is_called_is_documented():
    for name in PUBLIC:
        found = eq
        for part in name.split("."):
            found = getattr(found, part)
        if inspect.isfunction(found) or inspect.isclass(found):
            assert (inspect.getdoc(found) or "").strip(), name


def test_public_functions_show_an_example():
    missing = []
    for name in PUBLIC:
        found = eq
        for part in name.split("."):
            found = getattr(found, part)
        if inspect.isfunction(found) and "." not in name and ">>>" not in (found.__doc__ or ""):
            missing.append(name)
    assert missing == ["bind"], missing


def test_import_is_light_and_starts_nothing():
    """Under 0.3 s of processor time beyond JAX (it loads nothing of ours but what is used); the core starts no backend, loads no foreign library."""
    code = """
import json, sys, time
import jax; import jax.numpy; middle = time.process_time()
import eqdyn; end = time.process_time()
loaded = [name for name in sys.modules if name.startswith("eqdyn.")]
eqdyn.simulate, eqdyn.check, eqdyn.certify, eqdyn.critical, eqdyn.rules, eqdyn.observe, eqdyn.topology, eqdyn.networks
heavy = [name for name in ("ripser", "sklearn", "matplotlib", "optax", "xarray", "zarr", "scipy.spatial", "tqdm", "gudhi", "numba", "diffrax", "equinox") if name in sys.modules]
from jax._src import xla_bridge
print(json.dumps([end - middle, loaded, heavy, bool(xla_bridge._backends)]))
"""
    seconds, loaded, heavy, started = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert (loaded, heavy, started) == ([], [], False)
    assert seconds < 0.3


def test_every_name_can_be_had_first():
    """Names are loaded when they are used, in any order: no module needs another to have been loaded before it."""
    assert [name for name in eq.__all__ if not hasattr(eq, name)] == []
    modules = [f"eqdyn.{name}" for name in sorted({*eq._ROOMS, *eq._HOMES})]
    code = f"""
import os, jax, jax.numpy
bad = []
for name in {modules!r}:
    if (child := os.fork()) == 0:
        try:
            __import__(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    bad += [name] if os.waitpid(child, 0)[1] else []
assert not bad, bad
"""
    if hasattr(os, "fork"):
        run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_no_file_outgrew_its_idea():
    """A file past 300 lines is asked why."""
    long = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert max(long.values()) <= 300, {name: lines for name, lines in long.items() if lines > 300}
