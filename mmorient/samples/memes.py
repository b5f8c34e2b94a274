"""Draw sample memes: small labeled pictures with captions, to try the project without any data.

Each meme is a captioned scene. Its labels follow from known causes:

| task        | labels                      | follows from                             |
|-------------|-----------------------------|------------------------------------------|
| `sentiment` | negative, neutral, positive | the text alone                           |
| `setting`   | gloomy, plain, cheerful     | the picture alone                        |
| `sarcasm`   | no, yes                     | both: yes where words and scene disagree |

Memes are dealt from a deck of nine, one for each pair of a sentiment and a setting. So two thirds
of the memes of every sentiment and of every setting are sarcastic: neither the text nor the scene
alone says anything about sarcasm or about the other's task. (As on a real meme the caption is part
of the picture, so a vision model that can read has the text too.)

    mmorient samples FOLDER --rows 400 --seed 0
"""

import csv
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont

from mmorient.samples.scenes import PICTURE_SIZE, STRIP_HEIGHT, Draw, draw_scene

TASKS: dict[str, list[str]] = {
    "sentiment": ["negative", "neutral", "positive"],
    "setting": ["gloomy", "plain", "cheerful"],
    "sarcasm": ["no", "yes"],
}
COLUMNS = ["image", "text", *TASKS]
MIN_ROWS = 36
MAX_ROWS = 20_000

_MARKER = ".sample_memes"
_DECK = [(words, scene) for words in range(3) for scene in range(3)]

_OPENERS = ["", "honestly,", "well,", "update:", "breaking news:", "dear diary,", "me:", "so,"]
_SUBJECTS = [
    "this Monday", "the team meeting", "my birthday", "the bus ride", "our weekend trip",
    "the group project", "my first day at work", "the family dinner", "the final exam",
    "my new haircut", "the software update", "our anniversary", "the morning run", "the blind date",
    "grandma's soup", "the school play", "the job interview", "my driving test", "the camping trip",
]  # fmt: skip
_PREDICATES = [
    ["was a total disaster", "made me cry", "went horribly wrong", "ruined my whole week",
     "was the worst thing ever", "left me miserable", "was a nightmare", "broke my heart",
     "failed in every way", "was painful to watch", "was awful", "drove me to despair"],
    ["took about an hour", "was the same as usual", "went as scheduled", "was on the calendar",
     "was fairly average", "happened as planned", "was neither long nor short", "began at nine",
     "was rather ordinary", "was moved to Thursday", "met the rules", "was of medium length"],
    ["was absolutely wonderful", "made me so happy", "went perfectly", "made my whole week",
     "was the best thing ever", "filled me with joy", "was pure bliss", "warmed my heart",
     "was a huge success", "was a delight to watch", "was fantastic", "was a dream come true"],
]  # fmt: skip
_ENDINGS = [
    ["I give up.", "Why me?", "I hate it.", "Never again.", "So sad.", "Zero stars.",
     "Just terrible.", "Send help."],
    ["That is all.", "Details follow.", "Nothing to add.", "As expected.", "See the minutes.",
     "Next item.", "Thanks for reading.", "End of report."],
    ["I love it!", "Life is good!", "Ten out of ten!", "Best day!", "So grateful!",
     "Simply amazing!", "Can't stop smiling!", "Hooray!"],
]  # fmt: skip


def _captions(mood: int, count: int, rng: Random) -> list[str]:
    """Draw captions of one mood, no two alike."""
    parts = [_OPENERS, _SUBJECTS, _PREDICATES[mood], _ENDINGS[mood]]
    found = []
    for number in rng.sample(range(math.prod(map(len, parts))), count):
        words, rest = [], number
        for phrases in parts:
            rest, choice = divmod(rest, len(phrases))
            words.append(phrases[choice])
        text = "{} {} {}. {}".format(*words).strip()
        sentence = text[0].upper() + text[1:]
        found.append(rng.choice([text.upper(), text.lower(), sentence, sentence]))
    return found


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrapped(draw: Draw, text: str, font_size: int) -> list[str]:
    """Break a text into as few lines as fit the picture, of about equal length."""
    best: list[str] = []
    for width in range(PICTURE_SIZE - 12, PICTURE_SIZE // 3, -8):
        lines = text.split()[:1]
        for word in text.split()[1:]:
            longer = f"{lines[-1]} {word}"
            fits = draw.textlength(longer, font=_font(font_size)) <= width
            lines[-1:] = [longer] if fits else [lines[-1], word]
        if best and len(lines) > len(best):
            break
        best = lines
    return best


def draw_meme(text: str, mood: int, rng: Random) -> Image.Image:
    """Draw one meme: a strip with the caption above a scene.

    Args:
        text: the caption.
        mood: the scene's: 0 gloomy, 1 plain, 2 cheerful.
        rng: source of chance.

    Returns:
        An RGB picture of `PICTURE_SIZE` x `PICTURE_SIZE` pixels whose upper `STRIP_HEIGHT` rows
        hold the caption.
    """
    scene = draw_scene(mood, rng)
    paper, ink = rng.choice([((255, 255, 255), (16, 16, 16)), ((20, 20, 22), (250, 250, 250))])
    meme = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), paper)
    meme.paste(scene, (0, STRIP_HEIGHT))
    brush = ImageDraw.Draw(meme)
    font_size = 18
    while len(lines := _wrapped(brush, text, font_size)) * (font_size + 2) > STRIP_HEIGHT - 4:
        font_size -= 1
    top = (STRIP_HEIGHT - len(lines) * (font_size + 2)) / 2
    for number, line in enumerate(lines):
        place = (PICTURE_SIZE / 2, top + (number + 0.5) * (font_size + 2))
        brush.text(place, line, fill=ink, font=_font(font_size), anchor="mm")
    return meme


def draw_memes(folder: str | Path, rows: int = 400, seed: int = 0, missing: float = 0.0) -> dict[str, Path]:
    """Write a folder of sample memes: `images/*.png`, `train.csv` and `validation.csv`.

    A quarter of the rows is for validation. No two rows share a text or a picture. The tables have
    the columns `image` (relative to the folder), `text` and one per task, filled with label names.
    The same arguments write the same bytes (with the same version of Pillow).

    Args:
        folder: where to write: new, empty, or written by an earlier call, whose memes are replaced.
        rows: memes in both tables together, from `MIN_ROWS` to `MAX_ROWS`. With a multiple of
            `MIN_ROWS`, every pair is equally frequent in both tables.
        seed: every choice follows from it.
        missing: share of rows, from 0 to 1, in which one cell is left empty: the text, the picture
            (its file is not written either) or one label, in turn. The memes stay the same, and a
            caption stays on its picture, as on a meme whose text nobody has read out.

    Returns:
        The path of each table, by split: `train` and `validation`.

    Raises:
        ValueError: `rows` or `missing` is out of range.
        FileExistsError: `folder` is a file, or holds something that this function did not write.
    """
    if not MIN_ROWS <= rows <= MAX_ROWS:
        raise ValueError(f"rows={rows}, but it must be from {MIN_ROWS} to {MAX_ROWS}.")
    if not 0 <= missing <= 1:
        raise ValueError(f"missing={missing}, but it is a share of rows: give 0 to 1.")
    folder = Path(folder)
    _clear(folder)

    rng = Random(seed)
    pairs = {"train": _deal(rows - rows // 4, rng), "validation": _deal(rows // 4, rng)}
    words = [words for dealt in pairs.values() for words, _ in dealt]
    texts = [_captions(mood, words.count(mood), rng) for mood in range(3)]

    tables = {}
    number = 0
    for split, dealt in pairs.items():
        records = []
        gaps = _gaps(len(dealt), missing, Random(f"{split} {seed}"))
        for (text_mood, scene_mood), gap in zip(dealt, gaps, strict=True):
            number += 1
            record = {
                "image": f"images/{number:05}.png",
                "text": texts[text_mood].pop(),
                "sentiment": TASKS["sentiment"][text_mood],
                "setting": TASKS["setting"][scene_mood],
                "sarcasm": TASKS["sarcasm"][text_mood != scene_mood],
            }
            picture = draw_meme(record["text"], scene_mood, rng)
            if gap != "image":
                picture.save(folder / record["image"])
            records.append(record | {gap: ""} if gap else record)
        tables[split] = folder / f"{split}.csv"
        _write_table(tables[split], records)
    return tables


def _deal(count: int, rng: Random) -> list[tuple[int, int]]:
    """Deal (mood of the words, mood of the scene) from shuffled decks."""
    dealt: list[tuple[int, int]] = []
    while len(dealt) < count:
        dealt += rng.sample(_DECK, min(len(_DECK), count - len(dealt)))
    rng.shuffle(dealt)
    return dealt


def _gaps(count: int, missing: float, rng: Random) -> list[str | None]:
    """Name the column that each row lacks, if any."""
    kinds = [("text",), ("image",), tuple(TASKS)]
    gaps: list[str | None] = [None] * count
    for turn, row in enumerate(rng.sample(range(count), round(missing * count))):
        gaps[row] = rng.choice(kinds[turn % len(kinds)])
    return gaps


def _clear(folder: Path) -> None:
    """Make the folder ready, removing only what an earlier call has written."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Name a folder for the memes.")
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
        raise FileExistsError(f"{folder} holds other files. Name a new or an empty folder.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("Sample memes. Drawing again replaces them.\n", encoding="utf-8")
    for picture in (folder / "images").glob("[0-9]" * 5 + ".png"):
        picture.unlink()


def _write_table(path: Path, records: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
