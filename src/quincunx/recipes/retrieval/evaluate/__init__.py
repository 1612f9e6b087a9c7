"""Evaluation of retrieval models: the whole corpus, pools of it, or a list of candidates."""
