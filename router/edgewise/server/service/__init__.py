"""What all endpoints share: the router, the queue of texts, and whether the model is ready."""

from edgewise.server.service.service import Service

__all__ = ["Service"]
