"""Long Range Arena: long sequences, classified with interchangeable attention kinds (Tay et al. 2021)."""
