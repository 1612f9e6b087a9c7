"""Sweeps: many runs of one config over ranges of its settings, each an ordinary run; torch is never imported here."""
