"""What libraries report goes into a run's log file."""

import logging
import warnings
from pathlib import Path

import pytest
from transformers.utils import logging as transformers_logging

from mmorient.fitting.run_log import RUN_LOG, logged_to


def test_reports_and_warnings_of_libraries_go_into_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logged_to(tmp_path / "run"):
        assert not transformers_logging.is_progress_bar_enabled()
        transformers_logging.get_logger("transformers.modeling_utils").warning("a load report")
        warnings.warn("a warning of a library", stacklevel=1)
        logging.getLogger("transformers").error("what went wrong")
    assert transformers_logging.is_progress_bar_enabled()
    written = (tmp_path / "run" / RUN_LOG).read_text()
    assert all(part in written for part in ("a load report", "a warning of a library", "what went wrong"))
    printed = capsys.readouterr().err
    assert "what went wrong" in printed and "a load report" not in printed and "a warning" not in printed
    assert f"/{RUN_LOG}" in (tmp_path / "run" / ".gitignore").read_text()


def test_a_run_of_which_nothing_is_reported_has_no_file(tmp_path: Path) -> None:
    with logged_to(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file in the folder's place")
    with logged_to(tmp_path / "run"):
        logging.getLogger("transformers").warning("a load report")
    assert "Traceback" not in capsys.readouterr().err


def test_other_processes_write_no_file(tmp_path: Path) -> None:
    with logged_to(tmp_path / "run", writes=False):
        logging.getLogger("transformers").warning("a load report")
    assert not (tmp_path / "run").exists()
