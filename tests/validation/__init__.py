"""The suite measured against other timing tools, for anyone to repeat."""
