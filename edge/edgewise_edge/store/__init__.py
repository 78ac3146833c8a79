"""Files on disk: model folders, their manifests, the bundled models, and what is kept of them."""
