"""Pure functions of statistics, each with its source; nothing here imports torch."""
