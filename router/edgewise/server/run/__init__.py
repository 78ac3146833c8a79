"""Serving the app over TCP, TLS or a unix socket."""

from edgewise.server.run.server import Serving, serve, serve_app

__all__ = ["Serving", "serve", "serve_app"]
