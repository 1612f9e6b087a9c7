"""Pictures, examples and their features: reading, importing, rendering, mixing."""
