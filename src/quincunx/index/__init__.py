"""From vectors to answers: exact search, indexes, encoding of corpora."""
