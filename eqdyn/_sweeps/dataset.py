"""What the cells of a sweep kept, put together: an `xarray.Dataset` over the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqdyn._sweeps.cell import Kept
from eqdyn._sweeps.plan import Cell
from eqdyn._types import STATUS_NAMES


def labels(values: tuple) -> np.ndarray:
    """The values of a name as coordinates: numbers as numbers, else what they are called."""
    if all(isinstance(value, (int, float, str)) for value in values) and len({type(value) for value in values}) == 1:
        return np.asarray(values)
    return np.asarray([getattr(value, "__name__", None) or str(value) for value in values])


def assembled(grid: Mapping[str, tuple], cells: list[Cell], kept: Mapping[int, Kept], attributes: Mapping[str, Any]) -> Any:
    """A dataset with one axis a name. Cells that were not computed are missing: NaN, -1 or 0 by dtype, and the status ""."""
    xarray = _xarray()
    shape = tuple(len(values) for values in grid.values())
    whole: dict[str, np.ndarray] = {}
    for cell in cells:
        for name, values in kept.get(cell.number, {}).items():
            values = np.asarray(values)
            if name not in whole:
                whole[name] = _empty((int(np.prod(shape)), *values.shape[1:]), values.dtype)
            if whole[name].shape[1:] != values.shape[1:]:
                msg = f"keep: got {name!r} of shapes {whole[name].shape[1:]} and {values.shape[1:]} a lane; expected one shape over the grid."
                raise ValueError(msg)
            whole[name][cell.points[: cell.wanted]] = values
    if "status" in whole:
        whole["status"] = np.asarray([*STATUS_NAMES, ""])[whole["status"]]  # -1, not computed, is the last
    variables = {
        name: ((*grid, *(f"{name}_{k}" for k in range(values.ndim - 1))), values.reshape(*shape, *values.shape[1:])) for name, values in whole.items()
    }
    found = xarray.Dataset(variables, {name: labels(values) for name, values in grid.items()}, attrs=dict(attributes))
    if "eta" in found.coords:
        found["eta"].attrs["units"] = "step size"
    return found


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    fill: Any = np.nan if dtype.kind in "fc" else -1 if dtype.kind == "i" else 0
    return np.full(shape, fill, dtype)


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        msg = "sweep: xarray is missing; write pip install 'eqdyn[data]'."
        raise ImportError(msg) from error
    return xarray
