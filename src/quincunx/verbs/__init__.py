"""The verbs of the command line, a module for each family: the options it takes, and what it does with them.

A verb gets the parsed options, shows its result and returns the exit code. What it needs is imported inside it: verbs
that need no torch never load it.
"""
