"""A bottleneck beside the map from the last hidden state to the vocabulary."""
