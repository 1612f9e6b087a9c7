"""Multi-task models of pictures and texts, adapted by small trained parts."""
