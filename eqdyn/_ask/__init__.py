"""What the laws ask a rule: where (draws), along which segments (halve), with which derivatives (derive), all at once (ask).

Knows rules and no laws; what the laws make of the answers knows no rule.
"""
