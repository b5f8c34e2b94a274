"""Draw the pictures of README and docs from the quickstart's model and its drawn memes.

    make quickstart && python docs/pictures/draw.py

Needs Chromium, and for the demo what `make browser` installs. Writes `meme.png` (a meme with its answers),
`report.png`, `explanation.png` and `demo.png` here, each below 200 kB.
"""

import argparse
import base64
import csv
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from html import escape
from pathlib import Path

from PIL import Image
from playwright.sync_api import Error, sync_playwright

from mmorient.commands import explain
from mmorient.prediction.saved_models import load_saved_model
from modeling_mmorient.answers import Answer

FOLDER = Path(__file__).resolve().parent
LARGEST = 200_000
# A row of the sample memes whose words and scene disagree, so that all three tasks have something to say.
ROW = {"sentiment": "positive", "setting": "gloomy", "sarcasm": "yes"}
STYLE = """
body { margin: 0; padding: 20px; font: 17px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
main { display: flex; gap: 32px; align-items: center }
img { width: 300px; border-radius: 6px }
h2 { margin: 0 0 4px; font-size: 17px }
section { margin-bottom: 14px }
div { display: grid; grid-template-columns: 90px 220px 50px; gap: 10px; align-items: center }
meter { width: 220px; height: 14px }
.answer { font-weight: 600 }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of README and docs.")
    parser.add_argument("--model", default="runs/quickstart", help="folder of the quickstart's model")
    parser.add_argument("--memes", type=Path, default=Path("runs/sample_memes"), help="folder of its memes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        meme = _find_meme(arguments.memes / "validation.csv")
        picture = arguments.memes / meme["image"]
        model, processor = load_saved_model(arguments.model)
        answers = model.label(processor, images=[str(picture)], text=[meme["text"]])[0]
        (work / "meme.html").write_text(_meme_page(picture, answers), encoding="utf-8")
        _screenshot(work / "meme.html", 800, 430, "meme")
        _screenshot(Path(arguments.model) / "report" / "index.html", 1200, 1180, "report")
        recipe = "training/recipes/quickstart.yaml"
        explain.main([arguments.model, folder, recipe, "--rows", meme["place"], "--split", "validation"])
        _screenshot(work / f"validation-{meme['place']}.html", 1200, 1510, "explanation")
    _screenshot_demo(arguments.model, picture, meme["text"])


def _find_meme(table: Path) -> dict[str, str]:
    with table.open(encoding="utf-8", newline="") as file:
        for place, row in enumerate(csv.DictReader(file)):
            if all(row[task] == label for task, label in ROW.items()) and row["image"] and row["text"]:
                return {**row, "place": str(place)}
    raise ValueError(f"{table} has no row with {ROW}: draw the memes with `make quickstart`.")


def _meme_page(picture: Path, answers: dict[str, Answer]) -> str:
    content = base64.b64encode(picture.read_bytes()).decode()
    sections = []
    for task, answer in answers.items():
        bars = "".join(
            f'<span class="{"answer" if label in answer.labels else ""}">{escape(label)}</span>'
            f'<meter value="{share}"></meter><span>{share:.0%}</span>'
            for label, share in answer.probabilities.items()
        )
        sections.append(f"<section><h2>{escape(task)}</h2><div>{bars}</div></section>")
    image = f'<img src="data:image/png;base64,{content}">'
    page = f"<main>{image}<article>{''.join(sections)}</article></main>"
    return f"<meta charset=utf-8><style>{STYLE}</style>{page}"


def _screenshot_demo(model: str, picture: Path, text: str) -> None:
    """The demo after a meme was answered, and taught to be otherwise."""
    root, port = FOLDER.parents[1], 7899
    command = [root / ".demo" / "bin" / "python", "-m", "mmorient.commands.demo", model, "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 1180})
            for _ in range(120):
                with suppress(Error):
                    page.goto(f"http://127.0.0.1:{port}")
                    break
                time.sleep(1)
            page.set_input_files("input[type=file]", picture)
            page.wait_for_selector("#picture img")
            page.fill("#text textarea", text)
            page.click("#answer")
            page.wait_for_selector("#answers .bars")
            page.click("#teaching button")
            page.locator("#teaching input").first.click()
            page.get_by_role("option", name="negative").click()
            page.click("#teach")
            page.wait_for_selector("#taught .changes")
            page.wait_for_timeout(1000)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=FOLDER / "demo.png")
    finally:
        server.terminate()
        server.wait()
    _shrink(FOLDER / "demo.png")


def _chromium() -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError("there is no Chromium on the path: install it to draw the pictures.")
    return browser


def _screenshot(page: Path, width: int, height: int, name: str) -> None:
    output = FOLDER / f"{name}.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={output}"]
    subprocess.run(
        [_chromium(), *options, f"--window-size={width},{height}", page.resolve().as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    _shrink(output)


def _shrink(output: Path) -> None:
    Image.open(output).convert("RGB").quantize(128).save(output, optimize=True)
    if (size := output.stat().st_size) > LARGEST:
        raise ValueError(f"{output} has {size} bytes, more than {LARGEST}: make its window smaller.")


if __name__ == "__main__":
    main()
