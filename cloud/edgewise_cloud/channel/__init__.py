"""Publishing models: a signed channel that devices update from."""
