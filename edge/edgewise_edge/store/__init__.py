"""Models on disk: a folder with a manifest, and the bundled ones."""
