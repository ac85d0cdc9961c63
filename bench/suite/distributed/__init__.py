"""The training step over several ranks; timed only on request: ``--family distributed``."""
