"""Has anything regressed? The check, its power, its history and its settings."""
