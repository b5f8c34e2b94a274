"""What is asked of a publication: light to import, so that a command can tell before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What of the references is published.
REFERENCES = ("all", "embeddings", "none")


@dataclass(frozen=True)
class PublishingJob:
    """A run to publish, and how.

    Args:
        run: Folder that `mmorient train` wrote (its `output_dir`).
        repo_id: Where on the Hub, OWNER/NAME; made if it is not there.
        license: Of the model, as the Hub calls it, such as apache-2.0 or cc-by-nc-4.0.
        private: Make a new repository private.
        dry_run: Write the repository's files into this folder, and upload nothing.
        references: What of the references to publish: all, embeddings (without labels, which then do not
            vote) or none. They come from the training rows.
        language: Of the texts, as ISO 639-1 codes.
        datasets: That the training rows come from, as the Hub or their authors call them.
        examples_from_training: Publish the report with its pictures and texts of training, validation and
            test rows, which may be personal or under copyright.
        space: Also make or update this Space, OWNER/NAME, which shows the model in the browser. Its files lie
            in `space/` of the repository in any case.
        replace: Replace files that somebody else changed or put there since the last publication.
        message: Of the commit.

    Raises:
        ValueError: If neither `repo_id` nor `dry_run` is given, or a value is none of its choices.
    """

    run: Path
    repo_id: str | None
    license: str
    private: bool = False
    dry_run: Path | None = None
    references: str = "all"
    language: Sequence[str] = ("en",)
    datasets: Sequence[str] = ()
    examples_from_training: bool = False
    space: str | None = None
    replace: bool = False
    message: str = "Publish the model"

    def __post_init__(self) -> None:
        if self.repo_id is None and self.dry_run is None:
            raise ValueError("nowhere to publish to: give --repo_id OWNER/NAME, or --dry_run FOLDER")
        if self.references not in REFERENCES:
            raise ValueError(f"--references is {self.references!r}: choose one of {list(REFERENCES)}")
        if not self.license.strip():
            raise ValueError("--license is empty: name the licence, such as apache-2.0 or other")

    @property
    def name(self) -> str:
        """What the card calls the repository."""
        return self.repo_id or f"OWNER/{self.run.resolve().name}"
