"""Silences gRPC's own log, to which a cloud can write lines of its choice, also forged ones.

gRPC reads its settings when it is imported, so import this module before it. An app that has
imported gRPC before, or has set GRPC_VERBOSITY, decides for itself.
"""

import os

_VARIABLE = "GRPC_VERBOSITY"

if _VARIABLE not in os.environ:
    os.environ[_VARIABLE] = "NONE"
    try:
        import grpc  # noqa: F401
    finally:
        del os.environ[_VARIABLE]  # not for the app's child processes
