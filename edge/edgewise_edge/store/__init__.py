"""Models on disk: model folders, their manifests, and the bundled models."""
