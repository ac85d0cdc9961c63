"""Search for the fastest settings of this machine within a budget of seconds."""
