"""Soft prompts: trained vectors before what an encoder, a decoder or a language model reads."""
