"""The Space in a browser, from its folder and its requirements alone; `make browser` installs both."""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import LocalHub
from huggingface_hub import HfApi

from mmorient.demo.space import write_space
from modeling_mmorient import MMOrientForMultitaskClassification
from tests.mmorient.serving.published import publish

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# An environment of the Space's requirements.txt and nothing else.
PYTHON = ROOT / ".demo" / "bin" / "python"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 120

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not PYTHON.exists():
    pytest.skip("no .demo: `make browser` makes it", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the page is there."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
            return
        time.sleep(0.2)
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a running Space, whose model lies on a Hub."""
    folder = tmp_path_factory.mktemp("space")
    write_space(folder / "space", "tester/memes", "apache-2.0")
    port = free_port()
    with LocalHub() as hub, (folder / "log").open("w") as log:
        put_on_hub(hub, unsure(publish(folder / "model")))
        # The requirements' own packages, and nothing of this checkout.
        environment = hub.environment(folder / "home") | {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(folder / "uploads"),
        }
        environment.pop("PYTHONPATH", None)
        process = subprocess.Popen(
            [PYTHON, "app.py"], cwd=folder / "space", env=environment, stdout=log, stderr=log
        )
        try:
            wait_for(port, process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)
            print((folder / "log").read_text())  # pytest shows it beside what failed


def unsure(folder: Path) -> Path:
    """A saved model, with probabilities that show a change."""
    model = MMOrientForMultitaskClassification.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.div_(10)
    model.save_pretrained(folder)
    return folder


def put_on_hub(hub: LocalHub, folder: Path) -> None:
    """Upload a model."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        api = HfApi(endpoint=hub.endpoint, token="hf_local")
        api.create_repo("tester/memes")
        api.upload_folder(repo_id="tester/memes", folder_path=folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # As root, which a container may be, Chromium has no sandbox.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A visitor's page, which asks nobody but the Space for anything."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    visit(opened, address)
    yield opened
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    context.close()


def visit(page: Any, address: str) -> None:
    page.set_default_timeout(SECONDS * 1000)
    page.goto(address)
    page.wait_for_selector("#answers p")
    page.wait_for_selector("input[type=file]", state="attached")


def picture(tmp_path: Path) -> Path:
    path = tmp_path / "meme.png"
    shutil.copyfile(ROOT / "docs" / "pictures" / "meme.png", path)
    return path


def upload(page: Any, path: Path) -> None:
    page.set_input_files("input[type=file]", str(path))
    page.wait_for_selector("#picture img")


def clear(page: Any) -> None:
    page.click("#clear")
    page.wait_for_selector("#answers >> text=or click an example")


def ask(page: Any) -> str:
    """The answers to what stands in the page."""
    page.click("#answer")
    page.wait_for_timeout(300)
    # Until then Gradio lays what it is doing over what stands there.
    page.wait_for_function("!/processing|queue/.test(document.querySelector('#answers').innerText)")
    page.wait_for_selector("#answers .bars")
    return str(page.inner_text("#answers .mmorient"))


def teach(page: Any, label: str) -> str:
    """What teaching the first task's label says."""
    if not page.is_visible("#teach"):
        page.click("#teaching button")
    page.locator("#teaching input").first.click()
    page.get_by_role("option", name=label, exact=True).click()
    page.click("#teach")
    page.wait_for_selector("#taught .changes, #taught [role=alert]")
    return str(page.inner_text("#taught"))


def test_a_picture_with_a_text_is_answered_and_explained(page: Any, tmp_path: Path) -> None:
    assert "press Answer" in page.inner_text("#answers") and page.is_hidden("#why")
    upload(page, picture(tmp_path))
    page.fill("#text textarea", "what a lovely day")
    answers = ask(page)
    for task in ("mood", "about", "funny"):
        assert task in answers
    assert answers.count("%") >= 7 and answers.count("above") == 2
    page.wait_for_selector("#why .words span")
    assert page.locator("#why .pictures img").count() == 2
    assert page.locator("#why .words span").all_inner_texts() == ["what", "a", "lovely", "day"]
    for image in page.locator("#why img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")


def test_text_alone_and_picture_alone_are_answered(page: Any, tmp_path: Path) -> None:
    page.fill("#text textarea", "what a lovely day")
    with_text = ask(page)
    clear(page)
    upload(page, picture(tmp_path))
    page.click("#answer")
    page.wait_for_selector("#why >> text=The meme has no text.")
    assert page.inner_text("#answers") != with_text


def test_nothing_given_says_what_to_give(page: Any) -> None:
    page.click("#answer")
    page.wait_for_selector("#answers [role=alert]")
    assert "give a picture, a text, or both" in page.inner_text("#answers")
    assert page.is_hidden("#why")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\nnonsense", b"", b"<svg onload=alert(1)>"])
def test_a_broken_file_says_so(page: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    page.set_input_files("input[type=file]", str(path))
    page.wait_for_timeout(1000)
    page.click("#answer")
    page.wait_for_selector("#answers [role=alert]")
    said = page.inner_text("#answers")
    assert "image" in said and "Traceback" not in said and str(tmp_path) not in said
    # And the page goes on.
    clear(page)
    page.fill("#text textarea", "votes")
    assert "mood" in ask(page)


def test_what_a_visitor_teaches_is_theirs_until_they_forget(
    page: Any, browser: Any, address: str, tmp_path: Path
) -> None:
    upload(page, picture(tmp_path))
    before = ask(page)
    said = teach(page, "so-so")
    assert "taught so-so" in said and "→" in said and "yours 1" in said
    page.wait_for_selector("#why >> text=yours 1")
    after = page.inner_text("#answers .mmorient")
    assert after != before
    other = browser.new_page()
    visit(other, address)
    upload(other, picture(tmp_path))
    assert ask(other) == before and "yours 1" not in other.inner_text("#why")
    other.close()
    assert ask(page) == after
    page.click("#forget")
    page.wait_for_selector("#taught >> text=Nothing was taught")
    assert ask(page) == before


def test_teaching_without_a_label_says_what_is_missing(page: Any) -> None:
    page.fill("#text textarea", "votes")
    page.click("#teaching button")
    page.click("#teach")
    page.wait_for_selector("#taught [role=alert]")
    assert "Choose a label" in page.inner_text("#taught")


def test_examples_are_a_click_away(page: Any) -> None:
    page.locator("#examples tbody tr").nth(1).click()
    page.wait_for_function("document.querySelector('#text textarea').value.length > 5")
    assert "mood" in ask(page) and page.locator("#why .pictures img").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_all_of_it(browser: Any, address: str, tmp_path: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    visit(page, address)
    upload(page, picture(tmp_path))
    page.fill("#text textarea", "what a lovely day")
    ask(page)
    teach(page, "good")
    page.wait_for_selector("#why >> text=yours 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for part in ("#answers .bars", "#answer", "#taught .changes", "#why .pictures"):
        box = page.locator(part).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 400, (part, box)
    page.close()


def test_the_command_of_the_docs_shows_a_model(tmp_path: Path) -> None:
    publish(tmp_path / "runs" / "quickstart")
    (line,) = re.findall(
        r"^mmorient demo (.*?) *(?:#.*)?$", (ROOT / "docs" / "demo.md").read_text(), re.MULTILINE
    )
    port = free_port()
    arguments = line.replace("7860", str(port)).split()
    # The toolkit is this checkout, with what a Space has installed beside it.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [PYTHON, "-m", "mmorient.commands.main", "demo", *arguments]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            wait_for(port, process, tmp_path / "log")
            assert f"showing quickstart at http://127.0.0.1:{port}" in (tmp_path / "log").read_text()
        finally:
            process.terminate()
            process.wait(30)


def test_the_keyboard_is_enough(page: Any) -> None:
    def reach(test: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"(() => {{ const e = document.activeElement; return {test} }})()"):
                return
        pytest.fail(f"Tab never reaches what has {test}")

    reach("e.closest('#text') !== null && e.tagName === 'TEXTAREA'")
    page.keyboard.type("what a lovely day")
    reach("e.id === 'answer'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers .bars")
    reach("e.closest('#teaching') !== null && e.tagName === 'BUTTON'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#teach")
    reach("e.closest('#teaching') !== null && e.tagName === 'INPUT'")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#teaching input').value !== ''")
    reach("e.id === 'teach'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#taught .changes")
    reach("e.id === 'forget'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#taught >> text=Nothing was taught")
