"""Noise, classes, masks and images in, images out: `Generator`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelrt.bundle import Bundle
from pixelrt.closing import Closing
from pixelrt.errors import InputError
from pixelrt.frames import WARM_UP_RUNS, Bytes, Latency, check_size, is_whole
from pixelrt.generation.checking import check_drawn, check_strategy
from pixelrt.generation.drawing import check_seed, draw_latents
from pixelrt.generation.generated import Generated
from pixelrt.generation.inputs import Inputs, Items, Value
from pixelrt.generation.strategies import Drawn, Random, Strategy
from pixelrt.generation.streaming import in_order
from pixelrt.manifest import ClassInfo, ColorOrder
from pixelrt.pipeline.times import together
from pixelrt.session import Session, Ticket

_OUTPUT = "generated"
_RANDOM = Random()


class GenerationTicket:
    """Images on their way; see `Generator.submit`. It belongs to the thread that uses its generator."""

    def __init__(self, generator: Generator, work: _Work) -> None:
        self._generator = generator
        self._work = work
        self._result: Generated | None = None

    @property
    def done(self) -> bool:
        """Whether `result` returns without waiting for the GPU."""
        return self._result is not None or all(ticket.done for ticket in self._work.tickets)

    def result(self) -> Generated:
        """Wait for the images; any number of times.

        Raises:
            DeviceError: If the GPU failed at them.
        """
        if self._result is None:
            self._result = self._generator.collect(self._work)
        return self._result


@dataclass(slots=True)
class _Work:
    """Images that were submitted: one ticket per part."""

    count: int
    tickets: list[Ticket]
    on_device: bool
    began_s: float
    ready_s: float
    latents: Any
    labels: Any
    seed: int | None
    columns: int | None


class Generator(Closing):
    """Runs a generation bundle.

    Holds a session, so it belongs to one thread at a time (`clone` makes one for another thread); it is a
    context manager. Results own their arrays. What is not given is drawn: the same call gives the same bytes
    on the same backend. OpenVINO gives an image the same bytes in every batch; elsewhere a batch of another
    size may be computed in another order, and differ by one here and there.

        generator.sample(16, strategy=Random(seed=7, truncation=0.8))
        generator(latent=z, label="3")
        painter(mask)

    Attributes:
        bundle: What it runs.
        session: What runs it, and on what (`session.info`).
    """

    def __init__(self, bundle: Bundle, session: Session, color: ColorOrder | None = None) -> None:
        """Use `pixelrt.load`, which chooses the session.

        Args:
            bundle: A generation bundle.
            session: An open session of it, which the generator then owns.
            color: Colour order of the images, those that go in and those that come out, where they have three
                channels or more; None for the bundle's own.

        Raises:
            InputError: If the colour order is unknown.
        """
        if color not in (None, "rgb", "bgr"):
            raise InputError(f"color is {color!r}, expected 'rgb', 'bgr', or None for the bundle's own")
        manifest = bundle.generation
        self.bundle = bundle
        self.session = session
        self._manifest = manifest
        self._asked_color = color
        self._color: ColorOrder = color or manifest.output.color
        self._swap_output = manifest.output.channels == 3 and color not in (None, manifest.output.color)
        image = manifest.image
        self._swap_input = image is not None and image.channels >= 3 and color not in (None, image.color)
        self._inputs = Inputs(manifest, session, swap_color=self._swap_input)

    def __repr__(self) -> str:
        return f"Generator({self.bundle.manifest.name!r}, {self.session!r})"

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of its inputs: latent, label, mask, image, noise_0, ..."""
        return self._inputs.names

    @property
    def main(self) -> str:
        """The input that a call takes without its name: mask, else image, else latent, else label."""
        return self._inputs.main

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels; none where it is not conditional."""
        label = self._manifest.label
        return label.names if label else ()

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the masks that it paints; none where it takes no mask."""
        mask = self._manifest.mask
        return mask.classes if mask else ()

    @property
    def color(self) -> ColorOrder:
        """Colour order of the images that come out, where they have three channels."""
        return self._color

    @property
    def input_color(self) -> ColorOrder:
        """Colour order of the images that go in, where it takes images."""
        image = self._manifest.image
        return self._asked_color or (image.color if image else self._color)

    @property
    def swaps_color(self) -> bool:
        """Whether images have another colour order than in the network; only the host can change it."""
        return self._swap_output or self._swap_input

    @property
    def largest_batch(self) -> int:
        """How many images go through the network at once; more are cut."""
        return self.session.largest_batch or self._manifest.axes["batch"].max

    @property
    def slots(self) -> int:
        """How many runs may be on their way at once; 1 on the CPU."""
        return self.session.slots

    def close(self) -> None:
        """Free the session."""
        self.session.close()

    def clone(self) -> Generator:
        """A generator of the same loaded network for another thread, with a session of its own.

        Make it before that thread starts: what another thread uses cannot be cloned.
        """
        return Generator(self.bundle, self.session.clone(), self._asked_color)

    def warm_up(self, size: tuple[int, int] | None = None, *, count: int = 1) -> None:
        """Run until everything is set up, CUDA graphs included: the first images take longer than all others.

        Args:
            size: Height and width of the masks or images to come; None for the network's own.
            count: How many samples at once will be asked for.

        Raises:
            InputError: If the bundle does not take this size.
            DeviceError: If the backend fails.
        """
        black = {name: [value] * count for name, value in self._black(size).items()}
        for _ in range(WARM_UP_RUNS):
            for ticket in [self._sample(count, _RANDOM, black) for _ in range(self.slots)]:
                ticket.result()

    def _black(self, size: tuple[int, int] | None) -> dict[str, Any]:
        manifest = self._manifest
        black: dict[str, Any] = {}
        if size is not None:
            check_size(size)
            if manifest.mask is None and manifest.image is None:
                raise InputError("this generator takes neither mask nor image; warm it up without a size")
        if manifest.mask is not None:
            black["mask"] = np.zeros(size or manifest.mask.size, np.uint8)
        if manifest.image is not None:
            black["image"] = np.zeros((*(size or manifest.image.size), manifest.image.channels), np.uint8)
        if manifest.label is not None:
            black["label"] = 0
        return black

    def frame_buffer(self, size: tuple[int, int]) -> Bytes:
        """A mask or image to fill and submit: on a GPU page-locked, which saves copying it to memory that is.

        It is freed with the last view of it. One that was submitted must stay as it is until its result is
        there.

        Args:
            size: Height and width.

        Returns:
            uint8[H, W] for a mask, uint8[H, W, C] for an image, its content undefined.

        Raises:
            InputError: If the generator takes neither.
            OutOfMemory: If the host has no more memory to lock.
        """
        check_size(size)
        manifest = self._manifest
        if manifest.mask is None and manifest.image is None:
            raise InputError(f"this generator takes no mask and no image, it takes {', '.join(self.takes)}")
        channels = () if manifest.mask is not None or manifest.image is None else (manifest.image.channels,)
        return self.session.host_array(np.dtype(np.uint8), (*map(int, size), *channels))

    def __call__(self, given: Any = None, *, seed: int = 0, **inputs: Any) -> Generated:
        """Generate one image, or several.

        Each input is for one image, or for several: with one more axis in front, or a list. One for one image
        is used for all of several.

        Args:
            given: The `main` input, without its name.
            seed: Of latents and noise that are not given: image `i` depends on the seed and `i` alone.
            **inputs: `latent` float32[*size]; `label`, a name or an id; `mask` uint8[H, W] of class ids, of
                any size on the CPU, or a `Segmentation` (with one-hot masks the id after the last class and
                255 are unlabelled pixels); `image` uint8[H, W, C], of any size on the CPU; `noise_0`, ...
                float32[*size]. On a GPU also arrays that are there already (`__dlpack__` or
                `__cuda_array_interface__`), contiguous.

        Raises:
            InputError: If an input cannot be used, or a label, mask or image is missing; nothing was run.
            DeviceError: If the backend fails.
        """
        return self.submit(given, seed=seed, **inputs).result()

    def submit(
        self, given: Any = None, *, seed: int = 0, on_device: bool = False, **inputs: Any
    ) -> GenerationTicket:
        """Start, and return at once. On the CPU the work is done when this returns.

        Args:
            given: As for a call.
            seed: As for a call.
            on_device: Leave the images on the GPU: `Generated.device_images`.
            **inputs: As for a call. Arrays on the GPU and those of `frame_buffer` stay as they are until the
                result is there; others are copied at once.

        Raises:
            InputError: As for a call, and if there is no GPU for the images to stay on.
            DeviceError: If the backend fails.
        """
        began = time.perf_counter()
        check_seed(seed)
        values = self._inputs.read(self._named(given, inputs))
        count = self._inputs.number(values, None)
        latent = None if "latent" in values else self._manifest.latent
        drawn = Drawn(
            seed=seed,
            noise_indices=range(count),
            latents=None if latent is None else draw_latents(latent, seed, range(count)),
        )
        return self._start(values, drawn, began, on_device=on_device)

    def sample(self, count: int | None = None, *, strategy: Strategy = _RANDOM, **given: Any) -> Generated:
        """Generate images as a strategy says.

        Args:
            count: How many; None for the strategy's number, or that of the inputs given, or 1.
            strategy: Which latents and labels.
            **given: Inputs that the strategy does not decide, as for a call: a mask to paint in many ways, a
                label.

        Raises:
            InputError: If the strategy does not fit the generator, the count, or the inputs given.
            DeviceError: If the backend fails.
        """
        return self._sample(count, strategy, given).result()

    def _sample(self, count: int | None, strategy: Strategy, given: Mapping[str, Any]) -> GenerationTicket:
        began = time.perf_counter()
        if count is not None and (not is_whole(count) or count < 1):
            raise InputError(f"count is {count!r}, expected a whole number of at least 1")
        check_strategy(strategy, self.takes, given)
        values = self._inputs.read(given)
        asked = self._asked(count, strategy)
        number = self._inputs.number(values, asked)
        drawn = strategy.draw(self._manifest, range(number))
        check_drawn(strategy, drawn, number, self._manifest)
        self._check_varied(number, values, drawn)
        return self._start(values, drawn, began, columns=strategy.columns)

    def _asked(self, count: int | None, strategy: Strategy) -> int | None:
        own = strategy.count(self._manifest)
        if own is not None and count not in (None, own):
            raise InputError(
                f"count is {count}, {type(strategy).__name__} makes {own} images here; leave count out"
            )
        return count if own is None else own

    def _check_varied(self, number: int, values: Mapping[str, Value], drawn: Drawn) -> None:
        varied = any(value.several for value in values.values()) or any(
            name not in values for name in self.takes
        )
        if number > 1 and not varied:
            raise InputError(
                f"{number} images were asked for, and nothing in this generator is random: all would be the "
                f"same; give it several of {', '.join(self.takes)}"
            )

    def stream(self, given: Iterable[Any], *, seed: int = 0, **inputs: Any) -> Iterator[Generated]:
        """Generate an image for each mask or image that comes, in order, as soon as it is there.

        On a GPU as many are on their way as there are slots. All have the same latent and the same noise, so
        that a film does not flicker.

        Args:
            given: The `main` input of each, as for a call.
            seed: As for a call.
            **inputs: Other inputs, the same for all.

        Raises:
            InputError: If one cannot be used.
            DeviceError: If the backend fails.
        """
        return in_order(lambda each: self.submit(each, seed=seed, **inputs), given, self.slots)

    def _named(self, given: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        named = {name: value for name, value in inputs.items() if value is not None}
        if given is None:
            return named
        if self.main in named:
            raise InputError(f"the {self.main} came twice, without its name and as {self.main}=...")
        return {self.main: given, **named}

    def _start(
        self,
        values: Mapping[str, Value],
        drawn: Drawn,
        began: float,
        *,
        on_device: bool = False,
        columns: int | None = None,
    ) -> GenerationTicket:
        if on_device and self._swap_output:
            raise InputError(
                f"images on the GPU are {self._manifest.output.color}, {self._color} was asked for; "
                "load the bundle without color"
            )
        count = len(drawn.noise_indices)
        complete = self._inputs.complete(values, drawn)
        parts = self._inputs.parts(complete, count, self.largest_batch)
        if on_device and len(parts) > 1:
            raise InputError(
                f"{count} images shall stay on the GPU, this network makes {self.largest_batch} of one size "
                "at once; ask for fewer"
            )
        ready = time.perf_counter()
        tickets = [
            self.session.submit(self._inputs.feeds(complete, part), on_device=on_device) for part in parts
        ]
        work = _Work(
            count=count,
            tickets=tickets,
            on_device=on_device,
            began_s=began,
            ready_s=ready,
            latents=_host(complete.get("latent")),
            labels=_host(complete.get("label")),
            seed=drawn.seed if self._drew(drawn, values) else None,
            columns=columns,
        )
        return GenerationTicket(self, work)

    def _drew(self, drawn: Drawn, values: Mapping[str, Value]) -> bool:
        """Whether anything comes from the seed."""
        noise = {info.name for info in self._manifest.noise}
        return any(name not in values for name in self.takes if name in drawn.from_seed | noise)

    def collect(self, work: _Work) -> Generated:
        """Wait for what `submit` started; its ticket calls this."""
        parts = [ticket.result()[_OUTPUT] for ticket in work.tickets]
        done = time.perf_counter()
        scale = 1e3 / work.count
        return Generated(
            images=self._no_images() if work.on_device else self._images(parts),
            device_images=parts[0] if work.on_device else None,
            latency=Latency(
                prepare_ms=(work.ready_s - work.began_s) * scale,
                network_ms=(done - work.ready_s) * scale,
                total_ms=(done - work.began_s) * scale,
                gpu=together([ticket.times for ticket in work.tickets]),
            ),
            latents=work.latents,
            labels=None if work.labels is None else tuple(self.labels[index] for index in work.labels),
            seed=work.seed,
            color=self._color,
            columns=work.columns,
        )

    def _images(self, parts: Sequence[Bytes]) -> Bytes:
        images = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.ascontiguousarray(images[..., ::-1]) if self._swap_output else images

    def _no_images(self) -> Bytes:
        output = self._manifest.output
        return np.empty((0, *output.size, output.channels), np.uint8)


def _host(items: Items | Value | None) -> Any:
    return None if isinstance(items, Value) else items
