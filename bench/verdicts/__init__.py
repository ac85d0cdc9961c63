"""Rules that compare the cells of one machine and return what they found, as data."""
