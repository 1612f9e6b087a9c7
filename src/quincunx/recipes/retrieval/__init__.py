"""Dense retrieval: bi-, poly- and cross-encoders, trained, evaluated and searched with."""
