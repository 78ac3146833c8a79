"""The router: what an app calls, and what it does with it."""

from edgewise.router.router import Router as Router
