"""Write a saved model as an ONNX graph that onnxruntime answers with, without torch or transformers.

    mmorient export MODEL OUTPUT_FOLDER [--int8]

Writes `model.onnx` (encoders, references, heads, calibration), the processor's files, `labels.json` and
`example.npz` (inputs and answers to try a runtime on). The graph is kept only if it answers as torch does on
drawn memes. `--int8` adds `model_int8.onnx`, smaller and faster, and a little less exact."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.export.job import ExportJob
from mmorient.files.disk_failures import explained_failures
from mmorient.recipes.field_docs import field_summaries


def parse(argv: Sequence[str]) -> ExportJob:
    """What a command line asks for."""
    parser = command_parser("export", "Write a saved model as an ONNX graph that onnxruntime answers with.")
    about = field_summaries(ExportJob)
    parser.add_argument("model", help=about["model"])
    parser.add_argument("output", type=Path, help=about["output"])
    parser.add_argument("--int8", action="store_true", help=about["int8"])
    return ExportJob(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str]) -> None:
    job = parse(argv)
    from mmorient.export.export import export_model

    with explained_failures({"output": str(job.output.parent)}):
        summary = export_model(job)
    print(summary)


if __name__ == "__main__":
    run(main, sys.argv[1:])
