"""From sources to logical batches: order is arithmetic, so that any position can be resumed."""
