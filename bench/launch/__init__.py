"""Run the suite in fresh processes: here, on two sides, or on each machine of a cluster."""
