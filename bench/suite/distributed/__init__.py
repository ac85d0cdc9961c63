"""The training step over several ranks; timed where it is asked for: ``--family distributed``."""
