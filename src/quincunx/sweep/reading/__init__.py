"""From files and overrides to a checked sweep, and from its ranges to the config of a run."""
