"""The working memory of a network, which the slots of a ring share: their runs follow one another."""

from __future__ import annotations

from pixelrt.cuda.protocol import DeviceMemory, Driver, Stream


class Scratch:
    """Grows to what the most demanding slot needs."""

    def __init__(self, driver: Driver, compute: Stream) -> None:
        self._driver = driver
        self._compute = compute
        self._memory: DeviceMemory | None = None
        self._generation = 0

    def reserve(self, size_bytes: int) -> None:
        """Have at least this much. May wait for runs that still use the old memory.

        Raises:
            OutOfMemory: If the GPU has not so much. There is none then, and who needs it reserves it anew.
        """
        if size_bytes <= self.size_bytes:
            return
        self._compute.synchronize()
        self.close()
        self._memory = self._driver.allocate(size_bytes)

    @property
    def generation(self) -> int:
        """Another number whenever the memory has moved or is gone."""
        return self._generation

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        return 0 if self._memory is None else self._memory.size_bytes

    @property
    def address(self) -> int:
        """Where it is; 0 where no network needs any."""
        return 0 if self._memory is None else self._memory.address

    def close(self) -> None:
        """Free it. No run may be in flight."""
        if self._memory is not None:
            self._generation += 1
            self._memory.close()
            self._memory = None
