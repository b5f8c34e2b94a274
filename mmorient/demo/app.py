"""The page of the demo, made with Gradio."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from mmorient.demo.examples import read_examples
from mmorient.demo.views import show_answers, show_empty, show_problem, show_taught, show_why, style
from mmorient.demo.visits import Meme, SharedModel, Visit

# Of an uploaded picture.
MAX_FILE_SIZE = "10mb"
# Uploads and taught references are deleted when they are older than this; checked this often; in seconds.
KEPT_SECONDS, CHECK_SECONDS = 3600, 600
# Visitors that may wait for an answer at the same time; others are told to try again later.
MOST_WAITING = 64
# The choice that stands for the empty list of labels; tasks' own labels are never empty.
NONE_OF_THEM = ""
logger = logging.getLogger("mmorient.demo")


class Demo:
    """What happens when a visitor presses a button.

    Args:
        model: The model that answers.
    """

    def __init__(self, model: SharedModel) -> None:
        self.model, self.specs = model, model.specs
        self.image_processor = model.pipeline.processor.image_processor

    def answer(self, image: str | None, text: str | None, visit: Visit) -> tuple[Any, ...]:
        """Answers and why."""

        def work() -> tuple[Any, ...]:
            return self._shown(self.model.answer(_meme(image, text), visit), visit)

        return _or_problem(work, lambda problem: (problem, gr.update(visible=False)))

    def teach(self, image: str | None, text: str | None, visit: Visit, *labels: Any) -> tuple[Any, ...]:
        """Adds a reference; the answers with it, why, and what it changed."""

        def work() -> tuple[Any, ...]:
            meme = _meme(image, text)
            before = self.model.answer(meme, visit)
            taught = self.model.teach(meme, self._labels(labels), visit)
            after = self.model.answer(meme, taught)
            shown = self._shown(after, taught)
            return taught, *shown, show_taught(taught, before, after)

        return _or_problem(work, lambda problem: (gr.skip(), gr.skip(), gr.skip(), problem))

    def forget(self) -> tuple[Any, ...]:
        """A visit without taught references, and its page, without the answers that were given with them."""
        visit = Visit()
        return visit, show_empty(self.specs), gr.update(visible=False), show_taught(visit)

    def clear(self) -> tuple[Any, ...]:
        """An empty page; what was taught stays."""
        return None, "", show_empty(self.specs), gr.update(visible=False)

    def _shown(self, answered: Any, visit: Visit) -> tuple[Any, ...]:
        why = show_why(answered, self.specs, visit, self.image_processor)
        return show_answers(answered, self.specs), gr.update(value=why, visible=True)

    def _labels(self, chosen: tuple[Any, ...]) -> dict[str, Any]:
        """By task, the labels that a visitor chose, as in a request; tasks without a choice are left out."""
        found = {}
        for task, value in zip(self.specs, chosen, strict=True):
            if value is None or value == []:
                continue
            if isinstance(value, list) and NONE_OF_THEM in value:
                if len(value) > 1:
                    raise ValueError(f"{task}: choose labels, or “none of them”, not both.")
                value = []
            found[task] = value
        return found


def create_app(pipeline: Any, title: str, examples: Path | None) -> gr.Blocks:
    """The demo of a model.

    Args:
        pipeline: An `MMOrientPipeline`.
        title: Name of the model, as visitors see it.
        examples: Folder with memes to click, as `examples.py` reads it; None: there are none.
    """
    model = SharedModel(pipeline)
    demo, processor = Demo(model), pipeline.processor
    takes_text = processor.tokenizer is not None or processor.joint_tokenizer is not None
    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(CHECK_SECONDS, KEPT_SECONDS)
    ) as blocks:
        visit = gr.State(Visit(), time_to_live=KEPT_SECONDS)
        gr.Markdown(f"# {_plain(title)}\nOne model answers several questions about a picture with text.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = gr.Image(
                    label="Picture",
                    sources=["upload", "clipboard"],
                    type="filepath",
                    height=320,
                    elem_id="picture",
                    visible=processor.image_processor is not None,
                )
                # The model's own reader opens the file, and says what is wrong with it. (A class of our own
                # would make Gradio write a stub beside this file.)
                image.preprocess = _uploaded_file
                text = gr.Textbox(
                    label="Text on it (optional)", lines=2, max_lines=6, visible=takes_text, elem_id="text"
                )
                with gr.Row():
                    answer = gr.Button("Answer", variant="primary", elem_id="answer")
                    clear = gr.Button("Clear", elem_id="clear")
                if examples is not None:
                    gr.Examples(
                        read_examples(examples),
                        [image, text],
                        label="Drawn memes to try",
                        elem_id="examples",
                        cache_examples=False,
                    )
            with gr.Column(scale=3, min_width=300):
                answers = gr.HTML(show_empty(model.specs), elem_id="answers")
        why = gr.HTML(visible=False, elem_id="why", render=False)
        asked = [image, text, visit]
        gr.on(
            [answer.click, text.submit],
            demo.answer,
            asked,
            [answers, why],
            scroll_to_output=True,
            api_visibility="private",
        )
        clear.click(demo.clear, None, [image, text, answers, why], queue=False, api_visibility="private")
        if model.can_learn:
            with gr.Accordion("Teach it this meme", open=False, elem_id="teaching"):
                gr.Markdown(
                    "Say what is true of the meme above. The model takes it as one more reference, without "
                    "training, for this visit alone. Leave empty what you do not know."
                )
                with gr.Row():
                    labels = [_label_input(spec) for spec in model.specs.values()]
                with gr.Row():
                    teach = gr.Button("Teach", elem_id="teach")
                    forget = gr.Button("Forget all I taught", elem_id="forget")
                taught = gr.HTML(show_taught(Visit()), elem_id="taught")
            teach.click(
                demo.teach, [*asked, *labels], [visit, answers, why, taught], api_visibility="private"
            )
            forget.click(demo.forget, None, [visit, answers, why, taught], api_visibility="private")
        why.render()
    return blocks.queue(max_size=MOST_WAITING, default_concurrency_limit=1)


def launch(
    pipeline: Any, title: str, examples: Path | None, host: str | None = None, port: int | None = None
) -> None:
    """Show the demo of a model until the process is told to stop.

    Args:
        pipeline, title, examples: As in [`create_app`].
        host, port: Where to listen. None: 127.0.0.1 and the first free port from 7860, unless environment
            variables name others, as in a Space.

    Raises:
        OSError: If the port is taken.
    """
    create_app(pipeline, title, examples).launch(
        server_name=host,
        server_port=port,
        # Fonts of the machine: nothing is fetched from elsewhere.
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        head=style(),
        max_file_size=MAX_FILE_SIZE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        share=False,
        quiet=True,
    )


def _uploaded_file(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _label_input(spec: Any) -> Any:
    """Where a visitor says what is true for one task."""
    if not spec.labels:
        return gr.Number(label=spec.name, value=None)
    choices = [("none of them", NONE_OF_THEM)] if spec.several else []
    choices += [(label, label) for label in spec.labels]
    return gr.Dropdown(choices, value=[] if spec.several else None, multiselect=spec.several, label=spec.name)


def _meme(image: str | None, text: str | None) -> Meme:
    return Meme(None if image is None else Path(image), text)


def _or_problem(
    work: Callable[[], tuple[Any, ...]], problem: Callable[[str], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """What is shown after some work, or what is wrong."""
    try:
        return work()
    except ValueError as error:
        return problem(show_problem(str(error).removeprefix("inputs: ")))
    except Exception:
        logger.exception("the demo could not answer")
        return problem(show_problem("The model could not answer; the log says why."))


def _plain(title: str) -> str:
    """A title without characters that Markdown would interpret."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]()<>#+-.!|~" else one for one in title)
