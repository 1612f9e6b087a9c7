"""One batch in words, for `quincunx inspect`: what is left out and predicted, where tokens stand, who sees whom."""
