"""Several methods, and rules for the model's own parameters, as one: in one file, loaded at once."""
