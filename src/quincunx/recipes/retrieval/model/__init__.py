"""The models of retrieval: two towers, a poly-encoder, a reader of pairs; all over any encoder of transformers."""
