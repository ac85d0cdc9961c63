"""The rules that make verdicts: each is a function of the cells of one machine.

Nothing is said of a difference that `estimates.ratio` does not call significant.
"""
