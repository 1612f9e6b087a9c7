"""How good predictions are: with a context, without, and compressed; answers that are generated whole."""
