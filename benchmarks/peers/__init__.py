"""Other runtimes of the same model, and ours: how each is made and run."""
