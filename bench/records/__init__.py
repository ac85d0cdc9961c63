"""The result row and its CSV; nothing here imports torch."""
