"""What models a place has: a signed channel (trust.py), or a plain model folder (plain.py)."""

from edgewise.delivery.catalog.interface import Catalog, Root, Storage, Target
from edgewise.delivery.catalog.opening import open_catalog

__all__ = ["Catalog", "Root", "Storage", "Target", "open_catalog"]
