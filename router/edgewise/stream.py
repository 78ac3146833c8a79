"""A text as it is written, for the one who asked."""

import threading
from collections.abc import Iterator
from typing import Self

from edgewise.generation import Chunk, Generation
from edgewise.situation import Decision
from edgewise.writing import Writing
from edgewise_edge import FinishReason


class TextStream(Iterator[Chunk]):
    """Chunks as they come. Closing it, leaving its `with` or dropping it cancels what still runs.

    Raises NoSourceError when the side that runs fails and no other may go on.
    """

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        # The generator knows `writing`, and nothing there knows the generator: when the last
        # reference to this stream goes, so does the generator, and with it the work.
        self._chunks = writing.run()
        self._reading = threading.Lock()

    def __next__(self) -> Chunk:
        """The next chunk."""
        with self._reading:
            chunk = next(self._chunks)
        self._end_if_cancelled()
        return chunk

    def close(self) -> None:
        """Stop here, from any thread; `generation` then holds what was written, as cancelled."""
        self._writing.cancelled.set()
        self._end_if_cancelled()

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def decision(self) -> Decision:
        """The decision in force."""
        return self._writing.decision

    @property
    def generation(self) -> Generation:
        """The result so far; complete once the stream has ended."""
        return self._writing.generation()

    def _end_if_cancelled(self) -> None:
        # While another thread is inside it, it cannot be closed; that thread does so afterwards.
        if self._writing.cancelled.is_set() and self._reading.acquire(blocking=False):
            try:
                self._chunks.close()
                self._writing.end(FinishReason.CANCELLED)
            finally:
                self._reading.release()
