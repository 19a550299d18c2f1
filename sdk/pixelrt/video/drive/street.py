"""Draws one view: sky, ground and shadows first, then the street from far to near."""

from __future__ import annotations

import math

import numpy as np

from pixelrt.dependency import require
from pixelrt.video.drive import actors, furniture, paint
from pixelrt.video.drive.camera import Camera
from pixelrt.video.drive.canvas import Canvas, Texture
from pixelrt.video.drive.light import Colour
from pixelrt.video.drive.world import HEIGHTS_M, SLOT_M, Slot, Thing, World

REACH_M = 210.0
_NEAR_M = 1.5
_DETAIL_M = 105.0
_FAR_KINDS = ("tree", "parked")
_SLATE: Colour = (84, 76, 74)
SKY, BUILDING, TREE, FENCE, NOTHING = 0, 1, 5, 7, 11
_PURPOSE = "drawing the procedural drive"
_FENCE_M = (1.1, 1.5, 1.7)


def draw(world: World, time_s: float) -> Canvas:
    """The view after `time_s` seconds, before the sensor adds its faults."""
    camera, canvas = world.camera(time_s), Canvas(world.size)
    slots = _slots(world, camera)
    movers = {
        kind: world.movers(kind, time_s, REACH_M) for kind in ("oncoming", "leading", "walker", "cyclist")
    }
    everyone = [thing for things in movers.values() for thing in things]
    _sky(canvas, camera, world)
    _ground(canvas, camera, world)
    _shadows(canvas, camera, world, slots, everyone)
    _skyline(canvas, camera, world)
    for near, pair in slots:
        for slot in pair:
            _backdrop(canvas, camera, world, slot)
        inside = [t for t in everyone if near <= t.z < near + SLOT_M]
        limit = camera.travelled_m + _DETAIL_M
        still = [t for slot in pair for t in slot.things if t.z < limit or t.kind in _FAR_KINDS]
        things = still + inside
        for thing in sorted(things, key=lambda t: (-t.z, t.x)):
            _thing(canvas, camera, world, thing, time_s)
    _bonnet(canvas, world)
    return canvas


def _slots(world: World, camera: Camera) -> list[tuple[float, list[Slot]]]:
    here = int(camera.travelled_m // SLOT_M)
    numbers = range(here + int(REACH_M / SLOT_M), here - 1, -1)
    return [(number * SLOT_M, [world.slot(number, side) for side in (-1, 1)]) for number in numbers]


def _sky(canvas: Canvas, camera: Camera, world: World) -> None:
    rows, cols = world.size
    turn = math.cos(camera.travelled_m / world.path.wave_m[0] + world.path.phase[0])
    shift = int((0.5 + 0.45 * turn * min(world.path.sway_m[0] / 7, 1)) * cols)
    shift = min(max(shift, 0), cols)
    low = min(max(int(camera.horizon_px) + 2, 1), rows)
    canvas.image[:low] = world.paints.sky[rows - low :, shift : shift + cols]
    canvas.labels[:low] = SKY


def _ground(canvas: Canvas, camera: Camera, world: World) -> None:
    """Look every row of the ground up in the texture, far rows in its smaller copies."""
    cv2 = require("cv2", "video", _PURPOSE)
    first, far = camera.ground_rows()
    cols, light, ground = world.size[1], world.light, world.paints.ground
    u = (np.arange(cols) + 0.5 - camera.centre_px).astype(np.float32)
    drift = camera.offset_m - camera.bend(far)
    bands = [0, *[int(np.searchsorted(-far, -limit)) for limit in (60.0, 28.0, 13.0)], len(far)]
    for band, level in zip(range(4), (3, 2, 1, 0), strict=True):
        low, high = bands[band], bands[band + 1]
        if low >= high:
            continue
        z = far[low:high, None]
        x = u[None] * (z / camera.focal_px).astype(np.float32) + drift[low:high, None].astype(np.float32)
        across, along = paint.GROUND_ACROSS, paint.GROUND_ALONG
        row = ((camera.travelled_m + z) % paint.GROUND_LONG_M * along).astype(np.float32)
        map_x = (x + np.float32(paint.GROUND_HALF_M)) * np.float32(across)
        map_y = np.ascontiguousarray(np.broadcast_to(row, map_x.shape))
        source, shrink = ground.levels[level], np.float32(1 / (1 << level))
        out = slice(first + low, first + high)
        canvas.labels[out] = cv2.remap(world.paints.ground_labels, map_x, map_y, cv2.INTER_NEAREST,
                                       borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
        canvas.image[out] = cv2.remap(source, map_x * shrink, map_y * shrink, cv2.INTER_LINEAR,
                                      borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    hazy = int(np.searchsorted(-far, -0.05 * light.haze_m))
    strip = canvas.image[first : first + hazy].astype(np.float32)
    own = np.exp(-far[:hazy] / light.haze_m).astype(np.float32)[:, None, None]
    canvas.image[first : first + hazy] = strip * own + (1 - own) * np.array(light.haze, np.float32)


def _shadows(
    canvas: Canvas, camera: Camera, world: World, slots: list[tuple[float, list[Slot]]], movers: list[Thing]
) -> None:
    """Darken the ground: a soft patch under each thing, and what the sun casts."""
    cv2 = require("cv2", "video", _PURPOSE)
    first, light = camera.ground_rows()[0], world.light
    rows, cols = world.size
    mask = np.full(((rows - first) // 2 + 1, cols // 2), 255, np.uint8)

    def dark(points: list[tuple[float, float]], level: int) -> None:
        ground = np.array([(x, 0.0, max(z - camera.travelled_m, _NEAR_M)) for x, z in points])
        pixels = (camera.project(ground) - (0, first)) / 2
        cv2.fillConvexPoly(
            mask, np.rint(np.clip(pixels, -9e3, 9e3) * 16).astype(np.int32), level, cv2.LINE_8, 4
        )

    reach, deep = 1.3 * light.sun_x, int(255 - 135 * light.sun)
    for start, pair in slots:
        for slot in pair:
            edge = slot.side * world.street.walls_m
            if slot.house >= 0 and slot.side * light.sun_x > 0 and light.sun:
                far = edge - HEIGHTS_M[slot.house] * reach
                dark(
                    [(edge, start), (edge, start + SLOT_M), (far, start + SLOT_M + 3), (far, start + 3)], deep
                )
        for thing in [t for slot in pair for t in slot.things] + [
            t for t in movers if start <= t.z < start + SLOT_M
        ]:
            _cast(thing, light.sun, reach, deep, dark)
    small = cv2.GaussianBlur(mask, (0, 0), max(cols / 700, 0.5))
    full = cv2.resize(small, (cols, rows - first), interpolation=cv2.INTER_LINEAR)
    lower = canvas.image[first:]
    cv2.multiply(lower, cv2.merge([full, full, full]), dst=lower, scale=1 / 255)


def _cast(thing: Thing, sun: float, reach: float, deep: int, dark: furniture.Dark) -> None:
    x, z = thing.x, thing.z
    if thing.kind in ("parked", "oncoming", "leading"):
        dark([(x - 0.95, z - 0.15), (x - 0.95, z + 4.3), (x + 0.95, z + 4.3), (x + 0.95, z - 0.15)], 110)
        if sun:
            dark([(x, z), (x, z + 4.3), (x - 1.3 * reach, z + 4.6), (x - 1.3 * reach, z + 0.5)], deep)
    elif thing.kind in ("walker", "stander", "cyclist"):
        dark([(x - 0.25, z - 0.15), (x - 0.25, z + 0.25), (x + 0.25, z + 0.25), (x + 0.25, z - 0.15)], 150)
        if sun:
            dark([(x - 0.1, z), (x + 0.1, z), (x - 1.6 * reach, z + 0.7), (x - 1.6 * reach, z + 0.4)], deep)
    elif thing.kind == "tree" and sun:
        ring = [(x - 4.5 * reach + 2.4 * math.cos(a / 2), z + 1.5 + 2 * math.sin(a / 2)) for a in range(13)]
        dark(ring, deep)
    elif thing.kind in ("lamp", "sign", "lights") and sun:
        dark([(x, z - 0.06), (x, z + 0.06), (x - 4 * reach, z + 1.2), (x - 4 * reach, z + 1.0)], deep)


def _skyline(canvas: Canvas, camera: Camera, world: World) -> None:
    """Trees and roofs far away, where the street ends."""
    z = REACH_M + 60
    stone, green = world.light.tint((130, 118, 108), z), world.light.tint((74, 82, 58), z)
    for mass in world.skyline:
        x, wide, high = mass.x, mass.wide, mass.high
        edge = camera.project(np.array([(x, 0.0, z), (x + wide, 0.0, z)]))[:, 0]
        if edge[1] < -20 or edge[0] > world.size[1] + 20:
            continue
        box = camera.project(np.array([(x, -4.0, z), (x, high, z), (x + wide, high, z), (x + wide, -4.0, z)]))
        canvas.polygon(box, green if mass.crowns else stone, TREE if mass.crowns else BUILDING)
        for along, radius in mass.crowns:
            centre = camera.project(np.array([(x + along, high, z)]))[0]
            size = camera.scale(z) * radius
            canvas.disc(centre, (1.5 * size, size), green, TREE)


def _backdrop(canvas: Canvas, camera: Camera, world: World, slot: Slot) -> None:
    start, end = slot.start_m - camera.travelled_m, slot.start_m + SLOT_M - camera.travelled_m
    x, light = slot.side * world.street.walls_m, world.light
    if slot.house < 0:
        if slot.fence >= 0 and end > _NEAR_M:
            high = _FENCE_M[slot.fence]
            label = TREE if slot.fence == 1 else FENCE
            _wall(
                canvas,
                camera,
                world,
                (x, start, end, high),
                (world.paints.fences[slot.fence], label, slot.side),
            )
        return
    if end <= _NEAR_M:
        return
    high = HEIGHTS_M[slot.house]
    ridge, depth = high + 2.4, 4.0
    if start > _NEAR_M:  # the end wall that looks at the camera
        back = x + slot.side * 9.0
        peak = (x + slot.side * depth, ridge, start)
        corners = [(x, 0.0, start), (x, high, start), peak, (back, high, start), (back, 0.0, start)]
        tone = world.paints.facades[slot.house].levels[-1].mean(axis=(0, 1)) * 0.95
        colour = (float(tone[0]), float(tone[1]), float(tone[2]))
        canvas.polygon(camera.project(np.array(corners)), light.tint(colour, start, 0.86), BUILDING)
    clip = max(start, _NEAR_M)
    roof = [(x - slot.side * 0.3, high, clip), (x - slot.side * 0.3, high, end),
            (x + slot.side * depth, ridge, end), (x + slot.side * depth, ridge, clip)]  # fmt: skip
    canvas.polygon(camera.project(np.array(roof)), light.tint(_SLATE, clip, light.wall(slot.side)), BUILDING)
    _wall(
        canvas, camera, world, (x, start, end, high), (world.paints.facades[slot.house], BUILDING, slot.side)
    )
    _chimney(canvas, camera, world, (x + slot.side * depth, end - 1.2, ridge))


def _chimney(canvas: Canvas, camera: Camera, world: World, place: tuple[float, float, float]) -> None:
    x, z, base = place
    if z < 4:
        return
    box = [
        (x - 0.5, base - 0.3, z),
        (x - 0.5, base + 1.1, z),
        (x + 0.5, base + 1.1, z),
        (x + 0.5, base - 0.3, z),
    ]
    canvas.polygon(camera.project(np.array(box)), world.light.tint((124, 88, 70), z), BUILDING)


def _wall(
    canvas: Canvas,
    camera: Camera,
    world: World,
    place: tuple[float, float, float, float],
    surface: tuple[Texture, int, int],
) -> None:
    """Draw an upright texture along the road; `place` is (x, start, end, height)."""
    x, start, end, high = place
    texture, label, side = surface
    clip = max(start, _NEAR_M)
    masks, levels = texture.masks, texture.levels
    if clip > start:  # only the part ahead of the camera
        cut = (clip - start) / (end - start)
        levels = tuple(level[:, min(int(cut * level.shape[1]), level.shape[1] - 1) :] for level in levels)
        masks = tuple(mask[:, min(int(cut * mask.shape[1]), mask.shape[1] - 1) :] for mask in masks)
    quad = camera.project(np.array([(x, high, clip), (x, high, end), (x, 0.0, end), (x, 0.0, clip)]))
    table = world.light.table((clip + end) / 2, world.light.wall(side))
    canvas.texture(quad, Texture(levels, masks), table, label)


def _thing(canvas: Canvas, camera: Camera, world: World, thing: Thing, time_s: float) -> None:
    z = thing.z - camera.travelled_m
    light, place = world.light, (thing.x, z, thing.variant)
    if thing.kind in ("oncoming", "leading", "parked"):
        front = thing.kind == "oncoming" or (thing.kind == "parked" and thing.x > 0)
        actors.draw_car(canvas, camera, light, place, front)
    elif z < _NEAR_M:
        return
    elif thing.kind in ("walker", "stander"):
        step = 0.0 if thing.kind == "stander" else 6.0 * time_s + 60 * thing.variant
        actors.draw_walker(canvas, camera, light, place, step)
    elif thing.kind == "cyclist":
        actors.draw_cyclist(canvas, camera, light, place, 7.0 * time_s + 60 * thing.variant)
    elif thing.kind == "tree":
        furniture.draw_tree(canvas, camera, light, place, world.paints.trees)
    elif thing.kind == "rail":
        rail = (thing.x, z, z + thing.variant, 1.05)
        _wall(canvas, camera, world, rail, (world.paints.fences[0], FENCE, 1))
    else:
        furniture.draw_furniture(canvas, camera, light, place, thing.kind)


def _bonnet(canvas: Canvas, world: World) -> None:
    if not world.bonnet:
        return
    rows, cols = world.size
    across = np.linspace(-0.05, 1.05, 24)
    top = 1 - world.bonnet * (1 - (2 * across - 0.9) ** 4 * 0.7)
    outline = np.concatenate([np.stack([across, top], 1), [[1.1, 1.2], [-0.1, 1.2]]]) * (cols, rows)
    canvas.polygon(outline, world.light.tint((58, 64, 74), 0.0), NOTHING)
    canvas.polygon(outline + np.array([0, 0.012 * rows]), world.light.tint((34, 38, 46), 0.0), NOTHING)
