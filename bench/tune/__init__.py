"""Search for the best settings on this machine, within a budget of seconds."""
