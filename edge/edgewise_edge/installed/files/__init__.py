"""The files of the store: where they lie, how they change, who may change them."""
