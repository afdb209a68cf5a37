"""Affine maps that carry one sample of inputs to another by optimal transport, in closed form: where a pullback starts."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from eqdyn import _checks

KINDS = ("wasserstein", "gromov", "plain")
_RANK = 1e-12  # of the largest variance: what is below is rounding


class Transport(NamedTuple):
    """An affine map `T(z) = z weight + bias` from d target inputs to m source inputs, and the principal axes of both.

    Fields:
        weight, bias: `(d, m)`, `(m,)` [source inputs per target inputs, source inputs].
        mean: of the target inputs, `(d,)`.
        whiten: `(d, k)`, centred target inputs to k principal coordinates of variance 1, by falling variance.
        colour: `(k, m)`, such coordinates to centred source inputs. Axes point to where their coordinate has a positive third moment.
        skews: `(2, k)`, these moments for target and source, no unit. Where one is about 0, chance directs the axis.
        kind: how it was made.
    """

    weight: Any
    bias: Any
    mean: Any
    whiten: Any
    colour: Any
    skews: np.ndarray
    kind: str

    def __call__(self, z: Any) -> Any:
        """Target inputs `(n, d)` as source inputs `(n, m)`."""
        return z @ self.weight + self.bias[None]


def transport(
    target: Any, source: Any, kind: Literal["wasserstein", "gromov", "plain"] = "wasserstein", *, lift: Any = None, ridge: float = 1e-3,
    num_axes: int | None = None,
) -> Transport:  # fmt: skip
    """An affine map from target to source inputs by optimal transport between Gaussians of their means and covariances; no labels are used.

        wasserstein    T(z) = m_S + A (z - m_T),   A = C_T^-1/2 (C_T^1/2 C_S C_T^1/2)^1/2 C_T^-1/2
        gromov         T(z) = m_S + E_S (D_S / D_T)^1/2 E_T^t (z - m_T),   C = E D E^t by falling variance

    Gaussian maps and not entropic plans: they are affine, defined for inputs not seen yet, and made without iterations. The first is the optimal
    map of any law to its image under a *symmetric positive definite* affine map, which it finds exactly; it moves as little as it can, and so can
    neither turn nor invert. The second (Gromov-Wasserstein, plans restricted to Gaussians) compares distances within each sample: it
    does not ask for a common space or size, and finds rotations, reflections and scalings exactly where variances are distinct. It leaves the
    direction of each axis open; third moments decide, which is of no help for symmetric laws.

    EXACT for the moments of the two samples, up to rounding (float64) and `ridge`; an ESTIMATE for what they were drawn from.

    Args:
        target, source: inputs `(n, d)`, `(n', m)`, real floating of one dtype; any units.
        kind: "wasserstein", "gromov", or "plain": the lift alone.
        lift: `(d, m)`, from target to source inputs, in front of "wasserstein" and "plain"; None where d = m.
        ridge: of "wasserstein", added to both covariances, in units of the mean variance of each. With 0, directions without variance go to 0.
        num_axes: of "gromov" and the frames, the most that are kept; None keeps all that have variance in both.

    Returns:
        `Transport`, in the dtype of the inputs.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, samples without variance, a ridge below 0, another kind.
        TypeError: inputs that are not floating, or of two dtypes.

    Example:
        >>> import numpy as np, eqdyn as eq
        >>> z = np.random.default_rng(0).exponential(size=(500, 2)).astype(np.float32) * np.float32([1, 3])
        >>> turned = z @ np.float32([[0, 1], [-1, 0]])                                         # by 90 degrees
        >>> bool(np.abs(eq.paths.transport(turned, z, "gromov")(turned) - z).max() < 1e-4)
        True
        >>> stretched = z @ np.float32([[2, 1], [1, 1]])                                       # symmetric, positive definite
        >>> bool(np.abs(eq.paths.transport(stretched, z, ridge=0.0)(stretched) - z).max() < 1e-4)
        True

    References:
        Peyre and Cuturi, Computational Optimal Transport (2019), remark 2.31; Delon, Desolneux, Salmona, Gromov-Wasserstein distances between
        Gaussian distributions, Journal of Applied Probability 59 (2022).
    """
    if kind not in KINDS:
        msg = f"kind: got {kind!r}; expected {', '.join(map(repr, KINDS))}."
        raise ValueError(msg)
    ridge = _checks.number(ridge, "ridge", least=0.0)
    most = None if num_axes is None else _checks.count(num_axes, "num_axes", least=1)
    z, x = _inputs(target, "target"), _inputs(source, "source")
    if z.dtype != x.dtype:
        msg = f"target, source: got {z.dtype} and {x.dtype}; expected one dtype; write target.astype({str(x.dtype)!r})."
        raise TypeError(msg)
    d, m, dtype = z.shape[1], x.shape[1], z.dtype
    up = _lift(lift, d, m) if kind != "gromov" else None
    z, x = z.astype(np.float64), x.astype(np.float64)
    (mean, variances, axes, skew), (mean_s, variances_s, axes_s, skew_s) = (_frame(part, name) for part, name in ((z, "target"), (x, "source")))
    k = min(len(variances), len(variances_s), len(variances) if most is None else most)
    whiten, colour = axes[:, :k] / np.sqrt(variances[:k]), (axes_s[:, :k] * np.sqrt(variances_s[:k])).T
    if kind == "gromov":
        weight = whiten @ colour
        bias = mean_s - mean @ weight
    elif up is None:
        msg = f"lift: got None for {d} target and {m} source inputs; expected a matrix ({d}, {m}), or kind='gromov', which needs none."
        raise ValueError(msg)
    elif kind == "plain":
        weight, bias = up, np.zeros(m)
    else:
        moved = _monge(_covariance(z @ up), _covariance(x), ridge)
        weight = up @ moved
        bias = mean_s - mean @ weight
    weight, bias, mean, whiten, colour = (part.astype(dtype) for part in (weight, bias, mean, whiten, colour))
    return Transport(weight, bias, mean, whiten, colour, np.stack([skew[:k], skew_s[:k]]), kind)


def _inputs(value: Any, name: str) -> np.ndarray:
    found = np.asarray(_checks.points(value, name, least=2))
    _checks.finite(found, name)
    return found


def _lift(lift: Any, d: int, m: int) -> np.ndarray | None:
    if lift is None:
        return np.eye(d) if d == m else None
    found = np.asarray(_checks.floating(lift, "lift"), np.float64)
    if found.shape != (d, m):
        msg = f"lift: got shape {found.shape}; expected ({d}, {m}), from target to source inputs."
        raise ValueError(msg)
    _checks.finite(found, "lift")
    return found


def _covariance(z: np.ndarray) -> np.ndarray:
    centred = z - z.mean(0, keepdims=True)
    return centred.T @ centred / len(z)


def _frame(z: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variances from the largest on, their axes `(d, k)`, directed by third moments, and these, in units of the deviation."""
    mean = z.mean(0)
    variances, axes = (part[..., ::-1] for part in np.linalg.eigh(_covariance(z)))
    if not variances[0] > 0:
        msg = f"{name}: got {len(z)} equal inputs; expected some that differ."
        raise ValueError(msg)
    num = int(np.sum(variances > _RANK * variances[0]))
    variances, axes = variances[:num], axes[:, :num]
    skew = np.mean(((z - mean[None]) @ axes / np.sqrt(variances)[None]) ** 3, axis=0)
    return mean, variances, axes * np.where(skew < 0, -1.0, 1.0)[None], np.abs(skew)


def _monge(c_target: np.ndarray, c_source: np.ndarray, ridge: float) -> np.ndarray:
    """The symmetric matrix A with `A C_T A = C_S`."""
    one, other = (c + ridge * np.mean(np.diagonal(c)) * np.eye(len(c)) for c in (c_target, c_source))
    half, back = _power(one, 0.5), _power(one, -0.5)
    return back @ _power(half @ other @ half, 0.5) @ back


def _power(c: np.ndarray, exponent: float) -> np.ndarray:
    """Of a symmetric matrix without negative eigenvalues, on its range."""
    values, axes = np.linalg.eigh((c + c.T) / 2)
    kept = values > _RANK * values[-1]
    return (axes[:, kept] * values[kept] ** exponent) @ axes[:, kept].T
