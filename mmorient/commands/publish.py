"""Publish a run on the Hub: model, code, processor, card and files to serve it, in one commit.

    mmorient publish RUN --repo_id OWNER/NAME --license apache-2.0 [--private] [--references embeddings]
        [--space OWNER/DEMO]
    mmorient publish RUN --license apache-2.0 --dry_run FOLDER

Of the training rows only their embeddings and labels are published, as the model's references, unless
`--references` says otherwise. `splits.csv`, `recipe.yaml` and digests of rows are not uploaded. Publishing
again replaces the earlier files; files that somebody else put there stay."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmorient.commands.running import command_parser, run
from mmorient.files.disk_failures import explained_failures
from mmorient.publishing.job import REFERENCES, PublishingJob
from mmorient.recipes.field_docs import field_summaries


def parse(argv: Sequence[str]) -> PublishingJob:
    """What a command line asks for."""
    parser = command_parser(
        "publish",
        "Publish a run on the Hub in one commit: model, code, processor, references, card and results. "
        "Publishing again replaces what the last publication put there.",
    )
    about = field_summaries(PublishingJob)
    parser.add_argument("run", type=Path, help=about["run"])
    parser.add_argument("--repo_id", metavar="X", help=about["repo_id"])
    parser.add_argument("--license", metavar="X", required=True, help=about["license"])
    parser.add_argument("--private", action="store_true", help=about["private"])
    parser.add_argument("--dry_run", type=Path, metavar="X", help=about["dry_run"])
    parser.add_argument("--references", choices=REFERENCES, default="all", help=about["references"])
    parser.add_argument("--language", nargs="+", metavar="X", default=["en"], help=about["language"])
    parser.add_argument("--datasets", nargs="+", metavar="X", default=[], help=about["datasets"])
    parser.add_argument("--examples_from_training", action="store_true", help=about["examples_from_training"])
    parser.add_argument("--space", metavar="X", help=about["space"])
    parser.add_argument("--replace", action="store_true", help=about["replace"])
    parser.add_argument("--message", metavar="X", default=PublishingJob.message, help=about["message"])
    try:
        return PublishingJob(**vars(parser.parse_args(argv)))
    except ValueError as error:
        parser.error(str(error))


def main(argv: Sequence[str]) -> None:
    job = parse(argv)
    from mmorient.publishing.publish import publish

    with explained_failures({"dry_run": str(job.dry_run)} if job.dry_run else {}):
        print(publish(job))


if __name__ == "__main__":
    run(main, sys.argv[1:])
