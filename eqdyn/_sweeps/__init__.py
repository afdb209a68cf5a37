"""Sweeps in parts: which points of a grid run together, one cell of them, who computes which, what it costs, where topology breaks.

`eqdyn._sweep` puts them together.
"""
