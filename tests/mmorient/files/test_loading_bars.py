"""Bars over weights are hidden, those of downloads are not."""

from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from mmorient.files.loading_bars import without_loading_bars


def test_bars_over_weights_are_hidden_and_come_back() -> None:
    assert logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    with without_loading_bars():
        assert not logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    assert logging.is_progress_bar_enabled() and not are_progress_bars_disabled()
    with without_loading_bars(), without_loading_bars():
        pass
    assert logging.is_progress_bar_enabled()
