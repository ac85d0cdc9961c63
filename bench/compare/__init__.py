"""Pure functions of result frames; nothing here imports torch."""
