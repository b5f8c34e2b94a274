"""Serve a saved model over HTTP.

    mmorient serve MODEL [--host 127.0.0.1] [--port 8000] [--token_file FILE]

Answers at /predict; /docs describes requests and answers. With a token, /references teaches and forgets, in
the server's memory: nothing is saved."""

import sys
from collections.abc import Sequence

from mmorient.commands.running import command_parser, run


def main(argv: Sequence[str]) -> None:
    parser = command_parser("serve", "Serve a saved model over HTTP, at /predict.")
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument(
        "--token_file",
        metavar="FILE",
        help="file of a token that edits of references carry",
    )
    arguments = parser.parse_args(argv)
    from mmorient.prediction.saved_models import load_saved_model
    from mmorient.serving.server import serve
    from modeling_mmorient import MMOrientPipeline

    model, processor = load_saved_model(arguments.model)
    print(f"serving {arguments.model} at http://{arguments.host}:{arguments.port}/predict", flush=True)
    serve(MMOrientPipeline(model, processor=processor), arguments.host, arguments.port, arguments.token_file)


if __name__ == "__main__":
    run(main, sys.argv[1:])
