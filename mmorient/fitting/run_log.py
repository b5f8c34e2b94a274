"""A run's log file: what libraries report and a user need not see."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging as transformers_logging

from mmorient.files.kept_at_home import keep_at_home
from mmorient.files.loading_bars import without_loading_bars

RUN_LOG = "run.log"
_LIBRARIES = ("transformers", "datasets", "accelerate", "huggingface_hub", "py.warnings")


class _File(logging.FileHandler):
    """A file that is opened at its first record; where it cannot be written, the run goes on without it."""

    def _open(self):  # type: ignore[no-untyped-def]
        folder = Path(self.baseFilename).parent
        folder.mkdir(parents=True, exist_ok=True)
        keep_at_home(folder, RUN_LOG)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logged_to(folder: Path, writes: bool = True) -> Iterator[None]:
    """Write what libraries log and warn to `run.log` in a run's folder, and hide bars of loading weights.

    Errors are shown as well. The file is left out of uploads of the folder, since it names folders of this
    machine.

    Args:
        folder: The run's `output_dir`.
        writes: Whether this process writes the file; of several processes only the first one does.
    """
    file: logging.Handler = (
        _File(folder / RUN_LOG, encoding="utf-8", delay=True) if writes else logging.NullHandler()
    )
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.ERROR)
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    transformers_logging.disable_default_handler()
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(file)
        logger.addHandler(shown)
    try:
        with without_loading_bars():
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(file)
            logger.removeHandler(shown)
        file.close()
        logging.captureWarnings(False)
        transformers_logging.enable_default_handler()
