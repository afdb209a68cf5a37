"""Models of other libraries as `(apply, params)`: what `find_groups`, `Monitor` and the rules take. One file a library, each optional."""
