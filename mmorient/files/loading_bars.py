"""Hide progress bars of transformers that tell a user nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Hide the bars of loading and writing weights inside the context; downloads keep theirs."""
    shown, downloads_shown = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.disable_progress_bar()  # those of downloads as well
    if downloads_shown:
        enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
