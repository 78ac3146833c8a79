"""Whether LiteRT and our kernel for attention can run here."""

from edgewise_cloud.errors import ServeError
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime.open import import_library

_OTHERWISE = "or serve with --engine keras"


def require_kernel() -> None:
    """Raise ServeError unless both are installed: builtin ops alone are no faster than Keras."""
    try:
        library = import_library()
    except ModelIncompatibleError as error:
        raise ServeError(f"--engine litert cannot run here: {error}; {_OTHERWISE}") from error
    if not hasattr(library, "attention_ops"):  # tflite-runtime
        raise ServeError(
            f"--engine litert needs LiteRT; install it with: pip install ai-edge-litert, {_OTHERWISE}"
        )
    with library.attention_ops(1) as ops:
        if not ops:
            raise ServeError(
                "--engine litert needs edgewise-edge's kernel for attention, which was not compiled: "
                "install a C compiler, then edgewise-edge again (pip install --force-reinstall "
                f"--no-deps ./edge), {_OTHERWISE}"
            )
