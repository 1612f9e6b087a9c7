"""Key-value prefix: trained keys and values that every position attends to, in each layer."""
