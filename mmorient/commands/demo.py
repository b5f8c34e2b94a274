"""Show a saved model in the browser.

    mmorient demo MODEL [--host 127.0.0.1] [--port 7860]

Shows the answers to memes that a visitor uploads and why they were given, and a field that teaches a
reference, which only this visitor has and which is not saved. `mmorient publish --space` puts the same page
on the Hub."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmorient.commands.running import command_parser, run


def main(argv: Sequence[str]) -> None:
    parser = command_parser("demo", "Show a saved model in the browser: ask it, see why, teach it.")
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=7860, help="port to listen at")
    arguments = parser.parse_args(argv)
    from mmorient.demo.app import launch
    from mmorient.demo.examples import write_examples
    from mmorient.prediction.saved_models import load_saved_model
    from mmorient.samples.examples import draw_examples
    from modeling_mmorient import MMOrientPipeline

    model, processor = load_saved_model(arguments.model)
    title = arguments.model if not Path(arguments.model).exists() else Path(arguments.model).resolve().name
    with TemporaryDirectory() as name:
        examples = Path(name) / "examples"
        write_examples(examples, draw_examples(examples))
        print(f"showing {title} at http://{arguments.host}:{arguments.port}", flush=True)
        pipeline = MMOrientPipeline(model, processor=processor)
        try:
            launch(pipeline, title, examples, arguments.host, arguments.port)
        except OSError as error:
            raise ValueError(
                f"nothing can be shown at {arguments.host}:{arguments.port} ({error}): choose another --port."
            ) from error


if __name__ == "__main__":
    run(main, sys.argv[1:])
