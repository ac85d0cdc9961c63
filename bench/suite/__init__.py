"""What is timed: one folder per family of benchmarks."""
