"""edgewise_proto: the contract; import generation_pb2, delivery_pb2, their *_pb2_grpc, and address."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Read the version when it is asked for: an import would take longer by a tenth."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("edgewise-proto")
