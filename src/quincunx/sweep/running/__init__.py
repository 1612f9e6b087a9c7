"""Training the runs: what is done next, the processes, and how they ended."""
