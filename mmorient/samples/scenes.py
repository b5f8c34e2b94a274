"""Scenes for the sample memes: gloomy, plain and cheerful places, and a figure in their mood."""

import math
from collections.abc import Callable
from random import Random

from PIL import Image, ImageDraw

PICTURE_SIZE = 224
STRIP_HEIGHT = 60

Color = tuple[int, int, int]
Draw = ImageDraw.ImageDraw

# Scenes are drawn at twice their size and scaled down, which smooths every edge.
_WIDTH, _HEIGHT = 2 * PICTURE_SIZE, 2 * (PICTURE_SIZE - STRIP_HEIGHT)
_HORIZON = 220


def draw_scene(mood: int, rng: Random) -> Image.Image:
    """Draw a scene with a figure.

    Args:
        mood: 0 gloomy, 1 plain, 2 cheerful.
        rng: source of chance.

    Returns:
        An RGB picture, `PICTURE_SIZE` wide and `PICTURE_SIZE - STRIP_HEIGHT` high.
    """
    scene = Image.new("RGB", (_WIDTH, _HEIGHT))
    brush = ImageDraw.Draw(scene)
    rng.choice(_SCENES[mood])(brush, rng)
    _figure(brush, rng, mood)
    return scene.reduce(2)


def _jitter(rng: Random, color: Color, by: int = 14) -> Color:
    red, green, blue = (min(255, max(0, value + rng.randint(-by, by))) for value in color)
    return red, green, blue


def _gradient(draw: Draw, top: Color, bottom: Color, end: int = _HEIGHT) -> None:
    for y in range(end):
        red, green, blue = (round(a + (b - a) * y / end) for a, b in zip(top, bottom, strict=True))
        draw.line((0, y, _WIDTH, y), fill=(red, green, blue))


def _disc(draw: Draw, x: float, y: float, radius: float, color: Color) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _ground(draw: Draw, color: Color, y: int = _HORIZON) -> None:
    draw.rectangle((0, y, _WIDTH, _HEIGHT), fill=color)


def _hills(draw: Draw, rng: Random, color: Color, y: int = _HORIZON) -> None:
    for _ in range(3):
        x, half, rise = rng.randint(0, _WIDTH), rng.randint(120, 240), rng.randint(30, 70)
        draw.ellipse((x - half, y - rise, x + half, y + 3 * rise), fill=_jitter(rng, color, 8))


def _clouds(draw: Draw, rng: Random, color: Color, count: int, size: int) -> None:
    for _ in range(count):
        x, y, shade = rng.randint(0, _WIDTH), rng.randint(10, 80), _jitter(rng, color, 8)
        for step, scale in ((-1.1, 0.65), (-0.4, 0.95), (0.4, 1.0), (1.1, 0.6)):
            _disc(draw, x + step * size, y - scale * size / 4, scale * size, shade)


def _bare_tree(draw: Draw, rng: Random, x: float, y: float, size: float = 54, lean: float = 0) -> None:
    tip_x, tip_y = x + size * math.sin(lean), y - size * math.cos(lean)
    draw.line((x, y, tip_x, tip_y), fill=(24, 22, 26), width=max(2, round(size / 7)))
    if size > 12:
        for turn in (-0.5, 0.45):
            bent = lean + turn + rng.uniform(-0.15, 0.15)
            _bare_tree(draw, rng, tip_x, tip_y, size * rng.uniform(0.6, 0.75), bent)


def _rain(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (72, 80, 94)), _jitter(rng, (126, 134, 146)))
    _ground(draw, _jitter(rng, (82, 86, 92)))
    for _ in range(5):
        x, y, half = rng.randint(0, _WIDTH), rng.randint(240, 310), rng.randint(25, 60)
        draw.ellipse((x - half, y - half // 5, x + half, y + half // 5), fill=(112, 124, 142))
    _clouds(draw, rng, (58, 62, 72), count=7, size=44)
    slant = rng.choice([-10, -6, 6, 10])
    for _ in range(130):
        x, y = rng.randint(0, _WIDTH), rng.randint(60, _HEIGHT)
        draw.line((x, y, x + slant, y + 24), fill=(168, 182, 204), width=2)


def _storm(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (34, 30, 52)), _jitter(rng, (92, 84, 112)))
    for _ in range(rng.randint(1, 2)):
        x, y = rng.randint(60, _WIDTH - 60), 50
        path = [(x, y)]
        while y < _HORIZON:
            x, y = x + rng.randint(-34, 34), y + rng.randint(24, 44)
            path.append((x, y))
        draw.line(path, fill=(250, 244, 190), width=6, joint="curve")
    _clouds(draw, rng, (44, 40, 56), count=6, size=50)
    _hills(draw, rng, (30, 30, 36))
    _ground(draw, _jitter(rng, (30, 32, 36), 8), _HORIZON + 30)
    _bare_tree(draw, rng, rng.randint(60, _WIDTH - 60), 262)


def _night(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (10, 14, 36), 8), _jitter(rng, (44, 48, 84)))
    for _ in range(25):
        _disc(draw, rng.randint(0, _WIDTH), rng.randint(0, 180), 1.5, (150, 154, 180))
    x, y, radius = rng.randint(50, _WIDTH - 50), rng.randint(40, 90), rng.randint(20, 32)
    _disc(draw, x, y, radius, (206, 204, 186))
    for side in (-0.4, 0.3):
        _disc(draw, x + side * radius, y - side * radius, radius / 4, (180, 178, 162))
    _ground(draw, _jitter(rng, (20, 24, 34), 6))
    x = rng.randint(20, 280)
    draw.rectangle((x, 150, x + 110, 232), fill=(12, 13, 20))
    draw.polygon([(x - 14, 150), (x + 55, 100), (x + 124, 150)], fill=(16, 16, 24))
    for left in (x + 18, x + 66):
        draw.rectangle((left, 170, left + 26, 198), fill=(32, 38, 60))


def _graveyard(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (84, 92, 92)), _jitter(rng, (138, 144, 140)))
    _bare_tree(draw, rng, rng.randint(30, _WIDTH - 30), 230)
    _ground(draw, _jitter(rng, (62, 70, 60)))
    offset = rng.randint(0, 70)
    for x in range(offset, _WIDTH, rng.randint(84, 110)):
        y, shade = rng.randint(222, 250), _jitter(rng, (112, 114, 118))
        if rng.random() < 0.4:
            draw.rectangle((x + 16, y - 70, x + 26, y), fill=shade)
            draw.rectangle((x, y - 54, x + 42, y - 44), fill=shade)
        else:
            draw.rounded_rectangle((x, y - 62, x + 46, y + 14), 22, fill=shade)
            draw.rectangle((x - 4, y, x + 50, y + 14), fill=(56, 64, 54))


def _street(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (188, 192, 196)), _jitter(rng, (206, 206, 204)))
    x = -rng.randint(0, 50)
    while x < _WIDTH:
        width, top = rng.randint(70, 110), rng.randint(30, 110)
        draw.rectangle((x, top, x + width, 240), fill=_jitter(rng, (164, 152, 140)))
        for left in range(x + 12, x + width - 20, 28):
            for upper in range(top + 14, 200, 36):
                draw.rectangle((left, upper, left + 14, upper + 20), fill=(124, 132, 140))
        x += width
    _ground(draw, _jitter(rng, (178, 174, 168), 8))
    draw.rectangle((0, 250, _WIDTH, _HEIGHT), fill=_jitter(rng, (122, 122, 124), 8))
    for x in range(rng.randint(-40, 0), _WIDTH, 70):
        draw.rectangle((x, 284, x + 36, 290), fill=(206, 206, 200))


def _office(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (206, 202, 192)), _jitter(rng, (192, 186, 174)))
    _ground(draw, _jitter(rng, (140, 136, 132)), 250)
    x = rng.randint(20, 250)
    draw.rectangle((x, 24, x + 150, 110), fill=(170, 186, 194))
    for y in range(30, 110, 10):
        draw.line((x, y, x + 150, y), fill=(220, 218, 210), width=4)
    x = rng.randint(10, 190)
    draw.rectangle((x, 190, x + 240, 204), fill=_jitter(rng, (146, 118, 90)))
    for leg in (x + 12, x + 216):
        draw.rectangle((leg, 204, leg + 12, 290), fill=(104, 86, 70))
    screen = x + rng.randint(20, 110)
    draw.rounded_rectangle((screen, 112, screen + 104, 176), 6, fill=(62, 66, 72))
    draw.rectangle((screen + 6, 118, screen + 98, 168), fill=_jitter(rng, (150, 164, 176)))
    draw.rectangle((screen + 44, 176, screen + 60, 190), fill=(62, 66, 72))


def _room(draw: Draw, rng: Random) -> None:
    wall = _jitter(rng, (196, 186, 172))
    _gradient(draw, wall, wall)
    _ground(draw, _jitter(rng, (150, 126, 104)), 240)
    x = rng.randint(40, 300)
    draw.rectangle((x, 30, x + 90, 96), fill=(116, 98, 82))
    draw.rectangle((x + 8, 38, x + 82, 88), fill=_jitter(rng, (182, 184, 176)))
    cloth = _jitter(rng, (134, 130, 124), 20)
    x = rng.randint(20, 160)
    draw.rounded_rectangle((x, 140, x + 220, 226), 18, fill=cloth)
    draw.rounded_rectangle((x - 18, 176, x + 238, 250), 16, fill=_jitter(rng, cloth, 6))
    x = (x + 290) % 420
    draw.rectangle((x + 14, 120, x + 20, 252), fill=(92, 84, 76))
    draw.polygon([(x - 8, 126), (x + 42, 126), (x + 28, 84), (x + 6, 84)], fill=(214, 200, 168))


def _sunny(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (80, 176, 250)), _jitter(rng, (190, 232, 255)))
    x, y, radius = rng.randint(50, _WIDTH - 50), rng.randint(50, 80), rng.randint(28, 38)
    for ray in range(12):
        far, turn = 1.65 * radius, ray * math.pi / 6
        end = (x + far * math.cos(turn), y + far * math.sin(turn))
        draw.line((x, y, *end), fill=(255, 214, 60), width=6)
    _disc(draw, x, y, radius, (255, 224, 70))
    _clouds(draw, rng, (248, 250, 252), count=2, size=24)
    _hills(draw, rng, (122, 204, 92))
    _ground(draw, _jitter(rng, (104, 192, 78)))


def _flowers(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (140, 212, 250)), _jitter(rng, (224, 244, 250)))
    _ground(draw, _jitter(rng, (116, 200, 86)), 180)
    for y in sorted(rng.randint(190, 310) for _ in range(34)):
        x, size = rng.randint(0, _WIDTH), 4 + (y - 180) / 16
        petal = rng.choice([(250, 92, 140), (255, 176, 40), (236, 70, 70), (176, 98, 240)])
        draw.line((x, y, x, y + 4 * size), fill=(58, 146, 58), width=3)
        for turn in range(5):
            angle = turn * math.tau / 5
            _disc(draw, x + size * math.cos(angle), y + size * math.sin(angle), size * 0.7, petal)
        _disc(draw, x, y, size * 0.6, (255, 240, 120))


def _balloons(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (255, 226, 170)), _jitter(rng, (255, 196, 206)))
    _ground(draw, _jitter(rng, (250, 170, 110)), 250)
    bright = [(240, 64, 72), (64, 140, 250), (250, 190, 30), (80, 200, 100), (210, 90, 230)]
    for _ in range(60):
        x, y = rng.randint(0, _WIDTH), rng.randint(0, 310)
        draw.rectangle((x, y, x + 6, y + 6), fill=rng.choice(bright))
    for _ in range(rng.randint(6, 9)):
        x, y, size = rng.randint(10, _WIDTH - 10), rng.randint(50, 130), rng.randint(22, 32)
        color = _jitter(rng, rng.choice(bright))
        draw.line((x, y, x + rng.randint(-12, 12), y + 4 * size), fill=(120, 110, 110), width=2)
        draw.ellipse((x - size, y - 1.2 * size, x + size, y + 1.2 * size), fill=color)
        _disc(draw, x - size / 3, y - size / 2, size / 5, (255, 250, 250))


def _beach(draw: Draw, rng: Random) -> None:
    _gradient(draw, _jitter(rng, (96, 196, 250)), _jitter(rng, (206, 240, 252)))
    _disc(draw, rng.randint(40, _WIDTH - 40), rng.randint(40, 70), 30, (255, 226, 80))
    draw.rectangle((0, 140, _WIDTH, 220), fill=_jitter(rng, (40, 160, 214)))
    x = rng.randint(30, _WIDTH - 110)
    draw.polygon([(x, 158), (x + 80, 158), (x + 62, 178), (x + 16, 178)], fill=(230, 80, 70))
    draw.polygon([(x + 40, 84), (x + 40, 152), (x + 84, 152)], fill=(255, 255, 250))
    _ground(draw, _jitter(rng, (250, 222, 150)), 216)
    x = rng.randint(70, _WIDTH - 70)
    draw.line((x, 150, x, 290), fill=(150, 110, 80), width=6)
    color = rng.choice([(240, 70, 90), (250, 140, 30), (90, 190, 90)])
    for part, fill in enumerate([color, (255, 250, 240), color, (255, 250, 240), color]):
        start = 180 + 36 * part
        draw.pieslice((x - 76, 120, x + 76, 240), start, start + 36, fill=fill)


_SCENES: list[list[Callable[[Draw, Random], None]]] = [
    [_rain, _storm, _night, _graveyard],
    [_street, _office, _room],
    [_sunny, _flowers, _balloons, _beach],
]


def _figure(draw: Draw, rng: Random, mood: int) -> None:
    """Draw a person whose face and arms show the scene's mood."""
    x, y, size = rng.randint(60, _WIDTH - 60), rng.randint(196, 212), rng.randint(26, 31)
    shirt = [(84, 92, 116), (142, 138, 130), (246, 120, 60)][mood]
    reach = [1.5, 1.2, -1.3][mood] * size
    for side in (-1, 1):
        hand = (x + side * 1.7 * size, y + 1.6 * size + reach)
        draw.line((x, y + 1.6 * size, *hand), fill=(60, 48, 44), width=6)
        foot = (x + side * 0.6 * size, y + 4.2 * size)
        draw.line((x, y + 3 * size, *foot), fill=(60, 48, 44), width=7)
    box = (x - 0.75 * size, y + 0.8 * size, x + 0.75 * size, y + 3.2 * size)
    draw.rounded_rectangle(box, size // 2, fill=_jitter(rng, shirt), outline=(60, 48, 44), width=3)
    _disc(draw, x, y, 1.12 * size, (60, 48, 44))
    _disc(draw, x, y, size, rng.choice([(250, 214, 180), (222, 170, 126), (150, 104, 74)]))
    for side in (-1, 1):
        _disc(draw, x + side * 0.38 * size, y - 0.2 * size, 0.13 * size, (36, 30, 30))
    left, right = x - 0.45 * size, x + 0.45 * size
    if mood == 1:
        draw.line((left, y + 0.45 * size, right, y + 0.45 * size), fill=(36, 30, 30), width=5)
    elif mood == 2:
        draw.chord((left, y - 0.1 * size, right, y + 0.75 * size), 0, 180, fill=(150, 30, 40))
    else:
        draw.arc((left, y + 0.3 * size, right, y + 0.9 * size), 180, 360, (36, 30, 30), 5)
