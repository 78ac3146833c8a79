"""Which source answers: pure functions and plain data, standard library only."""
