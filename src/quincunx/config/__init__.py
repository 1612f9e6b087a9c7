"""Config files: read with positions, merged with origins, checked whole, explained. Never imports torch."""
