"""The exact engine: update by update, whatever the chunking, the number of processes, or the interruptions."""
