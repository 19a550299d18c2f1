"""What a Generator must do on every backend, shown on networks that NumPy computes too.

Test modules subclass the contracts and import the fixtures `bundles` and `opened`.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from generators import (
    ALL,
    FILTER,
    GAN,
    LABELS,
    PAINTER,
    SIZE,
    Kind,
    expect_images,
    make_generator_bundle,
    reference,
)
from generators import some_inputs as inputs_of
from numpy.typing import NDArray

import pixelrt
from pixelrt import Generator, Grid, Interpolate, Labels, Latents, Random
from pixelrt.backends.gpu_session import GpuSession
from pixelrt.bundle import Bundle
from pixelrt.cuda.protocol import Driver
from pixelrt.errors import DeviceError, InputError
from pixelrt.generation.drawing import draw_latents, draw_noise

COUNTS = (1, 3, 11)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Kind, Bundle]:
    folder = tmp_path_factory.mktemp("generators")
    return {kind: make_generator_bundle(folder, kind) for kind in (GAN, PAINTER, FILTER, ALL)}


@pytest.fixture(scope="class")
def opened(
    request: pytest.FixtureRequest, bundles: Mapping[Kind, Bundle]
) -> Iterator[Mapping[Kind, Generator]]:
    made = {kind: request.cls().open(bundle) for kind, bundle in bundles.items()}
    yield made
    for generator in made.values():
        generator.close()


def driver_of(generator: Generator) -> Driver:
    """What its session talks to the GPU with."""
    assert isinstance(generator.session, GpuSession)
    return generator.session.driver


def expected(generator: Generator, seed: int, given: Mapping[str, NDArray[Any]], count: int) -> Any:
    """NumPy's images, from what is given and what the seed stands for."""
    manifest = generator.bundle.generation
    feeds = dict(given)
    if manifest.latent is not None:
        feeds["latent"] = draw_latents(manifest.latent, seed, range(count))
    for info in manifest.noise:
        feeds[info.name] = draw_noise(info, seed, range(count))
    return reference(**feeds)


class GeneratorContract:
    """Subclasses open a bundle."""

    def open(self, bundle: Bundle) -> Generator:
        raise NotImplementedError

    @pytest.mark.parametrize("count", COUNTS)
    @pytest.mark.parametrize("kind", [GAN, PAINTER, FILTER, ALL], ids=lambda kind: kind.name)
    def test_golden(self, opened: Mapping[Kind, Generator], kind: Kind, count: int) -> None:
        """Byte for byte, batches beyond what the network takes included."""
        generator, given = opened[kind], inputs_of(kind, count)
        found = generator(seed=7, **given)
        expect_images(found.images, expected(generator, 7, given, count))
        assert found.seed == (None if kind is FILTER else 7)
        assert len(found) == count

    def test_a_seed_stands_for_its_bytes(self, opened: Mapping[Kind, Generator]) -> None:
        generator = opened[GAN]
        first = generator.sample(7, strategy=Random(seed=3, truncation=0.8))
        again = generator.sample(7, strategy=Random(seed=3, truncation=0.8))
        with generator.clone() as clone:
            cloned = clone.sample(7, strategy=Random(seed=3, truncation=0.8))
        assert first.images.tobytes() == again.images.tobytes() == cloned.images.tobytes()
        assert first.labels == again.labels
        fewer = generator.sample(2, strategy=Random(seed=3, truncation=0.8))
        np.testing.assert_array_equal(fewer.images, first.images[:2])
        other = generator.sample(7, strategy=Random(seed=4, truncation=0.8))
        assert (other.images != first.images).any(axis=(1, 2, 3)).all()

    def test_strategies(self, opened: Mapping[Kind, Generator]) -> None:
        """Each result says what it was made from, and is that."""
        generator = opened[GAN]
        z = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
        for strategy, count in (
            (Random(seed=1), 5),
            (pixelrt.Conditional("dog", seed=2), 5),
            (pixelrt.Conditional([0, "3"], seed=2), 5),
            (Interpolate(1, 2, steps=6, label="cat"), None),
            (Grid(2, 3, label=2, seed=1), None),
            (Labels(2, seed=9), None),
            (Latents(z, labels=["cat", "dog", "3"]), None),
        ):
            found = generator.sample(count, strategy=strategy)
            assert found.labels is not None and found.latents is not None
            ids = np.array([LABELS.index(name) for name in found.labels])
            expect_images(found.images, reference(latent=found.latents, label=ids))
        assert found.latents.tolist() == z.tolist() and found.seed is None
        given = {name: value[0] for name, value in inputs_of(ALL, 1).items() if name != "latent"}
        assert opened[ALL].sample(strategy=Latents(z, seed=6), **given).seed == 6  # of the noise

    def test_one_input_for_all(self, opened: Mapping[Kind, Generator]) -> None:
        painter, mask = opened[PAINTER], inputs_of(PAINTER, 1)["mask"][0]
        found = painter.sample(6, strategy=Random(2), mask=mask)
        wanted = expected(painter, 2, {"mask": np.stack([mask] * 6)}, 6)
        expect_images(found.images, wanted)

    def test_masks_in_every_form(self, opened: Mapping[Kind, Generator]) -> None:
        painter = opened[PAINTER]
        mask = inputs_of(PAINTER, 1, seed=3)["mask"][0]
        wanted = expected(painter, 0, {"mask": mask[None]}, 1)[0]
        larger = mask.repeat(4, axis=0).repeat(4, axis=1)
        for form in (mask, np.asfortranarray(mask), larger, larger[:, ::-1][:, ::-1]):
            expect_images(painter(form).image, wanted)
        several = painter([larger, mask, mask])
        expect_images(several.images[0], wanted)
        shrunk = np.kron(mask, np.ones((3, 3), np.uint8))[: 3 * 8 - 1, : 3 * 12 - 2]
        rows = [(2 * row + 1) * shrunk.shape[0] // 16 for row in range(8)]
        columns = [(2 * column + 1) * shrunk.shape[1] // 24 for column in range(12)]
        expect_images(
            painter(shrunk).image, expected(painter, 0, {"mask": shrunk[rows][:, columns][None]}, 1)[0]
        )

    def test_unlabelled_pixels_paint_nothing(self, opened: Mapping[Kind, Generator]) -> None:
        painter, mask = opened[PAINTER], inputs_of(PAINTER, 1)["mask"][0].copy()
        mask[:3], mask[3], mask[4, :3] = 255, len(painter.classes), range(3)
        expect_images(painter(mask).images, expected(painter, 0, {"mask": mask[None]}, 1))

    def test_streams_in_order(self, opened: Mapping[Kind, Generator]) -> None:
        painter = opened[PAINTER]
        masks = inputs_of(PAINTER, 5, seed=1)["mask"]
        taken: list[int] = []

        def source() -> Iterator[NDArray[np.uint8]]:
            for index, mask in enumerate(masks):
                taken.append(index)
                yield mask.copy()

        found = painter.stream(source(), seed=4)
        first = next(found)
        assert len(taken) == painter.slots
        for result, mask in zip([first, *found], masks, strict=True):
            expect_images(result.images, expected(painter, 4, {"mask": mask[None]}, 1))

    def test_a_stream_that_is_left(self, opened: Mapping[Kind, Generator]) -> None:
        painter, masks = opened[PAINTER], inputs_of(PAINTER, 4)["mask"]
        left = painter.stream(iter(masks))
        next(left)
        left.close()  # type: ignore[attr-defined]
        wanted = expected(painter, 0, {"mask": masks[1][None]}, 1)
        expect_images(painter(masks[1]).images, wanted)

    def test_tickets_keep_their_results(self, opened: Mapping[Kind, Generator]) -> None:
        generator = opened[GAN]
        tickets = [generator.submit(label=index % 3, seed=index) for index in range(7)]
        for index in (6, 0, 3, 3, 1):
            wanted = expected(generator, index, {"label": np.array([index % 3])}, 1)
            expect_images(tickets[index].result().images, wanted)
            assert tickets[index].done

    def test_other_colour_order(self, bundles: Mapping[Kind, Bundle]) -> None:
        given = inputs_of(FILTER, 3)
        with self.open(bundles[FILTER]) as plain:
            wanted = plain(**given).images
            swapped = Generator(plain.bundle, plain.session, "bgr")
            found = swapped(given["image"][..., ::-1])
        np.testing.assert_array_equal(found.images[..., ::-1], wanted)
        assert found.color == "bgr"

    def test_one_thread_at_a_time(self, opened: Mapping[Kind, Generator]) -> None:
        clones = [opened[GAN].clone() for _ in range(2)]
        wanted = opened[GAN].sample(3, strategy=Random(5)).images
        wrong: list[int] = []

        def work(index: int) -> None:
            with clones[index] as clone:
                found = [clone.sample(3, strategy=Random(5)).images for _ in range(10)]
            wrong.extend(index for images in found if (images != wanted).any())

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_closed(self, bundles: Mapping[Kind, Bundle]) -> None:
        generator = self.open(bundles[GAN])
        generator.close()
        with pytest.raises(DeviceError, match="this session is closed"):
            generator.sample()

    def test_warm_up(self, opened: Mapping[Kind, Generator]) -> None:
        opened[GAN].warm_up(count=3)
        opened[ALL].warm_up((24, 32), count=2)
        with pytest.raises(InputError, match="takes neither mask nor image"):
            opened[GAN].warm_up((24, 32))


class GpuGeneratorContract(GeneratorContract):
    """What it must do on a GPU, or on a fake one, beside that."""

    why_no_graphs = ""
    """What the session says where the library's runs are not captured although the driver could."""

    def open_two(self, first: Bundle, second: Bundle) -> tuple[Generator, Generator]:
        """Two on the same GPU."""
        return self.open(first), self.open(second)

    def test_graphs_are_captured(self, bundles: Mapping[Kind, Bundle]) -> None:
        with self.open(bundles[ALL]) as generator:
            generator.warm_up()
            given = inputs_of(ALL, 1)
            for seed in range(4):
                found = generator(seed=seed, **given)
                expect_images(found.images, expected(generator, seed, given, 1))
            text = generator.session.graphs
            if not driver_of(generator).captures_graphs:
                assert "has no CUDA graphs" in text
            elif self.why_no_graphs:
                assert self.why_no_graphs in text
            else:
                assert text.split(" ")[0] == str(generator.slots)

    def test_nothing_is_left(self, bundles: Mapping[Kind, Bundle]) -> None:
        """Of slots, graphs, images that stayed and tickets that nobody asked."""
        given = inputs_of(ALL, 1)

        def work(generator: Generator, count: int) -> dict[str, int]:
            for seed in range(count):
                generator.submit(seed=seed, on_device=seed % 2 == 0, **given)
            generator(**given)
            gc.collect()
            return dict(driver_of(generator).live)

        with self.open(bundles[ALL]) as generator:
            driver = driver_of(generator)
            others = dict.fromkeys(driver.live, 0)
            assert work(generator, 20) == work(generator, 100)
            kept = generator.submit(on_device=True, **given).result().device_images
            wanted = expected(generator, 0, given, 1)
        assert kept is not None
        expect_images(kept.to_host(), wanted)
        kept.close()
        del generator
        gc.collect()
        assert dict(driver.live) == others

    def test_a_chain_stays_on_the_gpu(self, bundles: Mapping[Kind, Bundle]) -> None:
        masks = inputs_of(PAINTER, 5)["mask"]
        with pixelrt.chain(*self.open_two(bundles[PAINTER], bundles[FILTER])) as both:
            assert both.on_device == (True,)
            painter = both.steps[0]
            assert isinstance(painter, Generator)
            painted = [painter(mask, seed=2).images for mask in masks]
            for result, image in zip(both.stream(masks, seed=2), painted, strict=True):
                expect_images(result.last.images, reference(image=image))
                np.testing.assert_array_equal(result[0].device_images.to_host(), image)

    def test_images_that_stay_on_the_gpu(self, opened: Mapping[Kind, Generator]) -> None:
        generator, given = opened[ALL], inputs_of(ALL, 3)
        kept = generator.submit(seed=1, on_device=True, **given).result()
        generator(seed=2, **given)
        assert kept.device_images is not None and len(kept) == 3
        assert "3 x 8x12x3 on the GPU" in repr(kept)
        wanted = expected(generator, 1, given, 3)
        expect_images(kept.device_images.to_host(), wanted)
        with pytest.raises(InputError, match="stay on the GPU"):
            _ = kept.image
        kept.device_images.close()

    def test_masks_and_images_on_the_gpu(self, opened: Mapping[Kind, Generator]) -> None:
        """An image of the GPU is filtered there, with nothing copied up or down for it."""
        first, given = opened[FILTER], inputs_of(FILTER, 1)
        kept = first.submit(on_device=True, **given).result().device_images
        assert kept is not None
        for image in (kept, kept.reshaped(kept.shape[1:])):
            expect_images(first(image).images, reference(image=first(**given).images))
        with pytest.raises(InputError, match=r"different numbers of images \(count: 2, image: 1\)"):
            first.sample(2, image=kept)
        with pytest.raises(InputError, match="generate one at a time"):
            first.sample(2, image=kept.reshaped(kept.shape[1:]))

    def test_more_than_goes_through_at_once_cannot_stay(self, opened: Mapping[Kind, Generator]) -> None:
        with pytest.raises(InputError, match="5 images shall stay on the GPU"):
            opened[GAN].submit(label=[0] * 5, on_device=True)

    def test_page_locked_masks(self, opened: Mapping[Kind, Generator]) -> None:
        painter, mask = opened[PAINTER], opened[PAINTER].frame_buffer(SIZE)
        for seed in range(4):
            mask[:] = inputs_of(PAINTER, 1, seed)["mask"][0]
            expect_images(painter(mask).images, expected(painter, 0, {"mask": mask[None]}, 1))

    def test_a_size_out_of_range_spoils_nothing(self, opened: Mapping[Kind, Generator]) -> None:
        painter, mask = opened[PAINTER], inputs_of(PAINTER, 1)["mask"][0]
        with pytest.raises(InputError, match="takes 1 to 2160"):
            painter(np.zeros((2161, 16), np.uint8))
        expect_images(painter(mask).images, expected(painter, 0, {"mask": mask[None]}, 1))
