"""Which configurations a sweep tries: its ranges as mathematics, and the samplers."""
