"""The page at `/`, for people: one HTML file, one script and one style sheet, without a build."""

from edgewise.server.page.assets import PATHS, routes

__all__ = ["PATHS", "routes"]
