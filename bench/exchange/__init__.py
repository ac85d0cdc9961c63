"""Results in other tools' formats, and back; nothing here imports torch."""
