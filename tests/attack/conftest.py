"""The fixture that runs a sweep's cases, and the table of all sweeps after a large run."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from harness import LARGE, ONLY, Case, counts, run_cases
from table import markdown, write_table
from tampered_models import Inputs, Model

PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
ENDINGS = pytest.StashKey[dict[str, Counter[str]]]()


@pytest.fixture(scope="session")
def inputs(make_inputs: Callable[..., Inputs]) -> Inputs:
    """Four rows that tampered models are asked about."""
    return make_inputs("features", 4, seed=2)


@pytest.fixture(scope="session")
def save_known(
    make_model: Callable[..., Model],
    make_inputs: Callable[..., Inputs],
    make_labels: Callable[..., Inputs],
) -> Callable[..., Model]:
    """`save_known(folder, seed, **options)`: saves and returns a model with twelve labelled references."""

    def save(folder: Path, seed: int, **options: Any) -> Model:
        model = make_model("features", seed, graph_scope="references", **options)
        known = make_inputs("features", 12, seed=1 + seed)
        model.add_references(known, [f"r{place}" for place in range(12)], make_labels(12, seed))
        model.save_pretrained(folder)
        return model

    return save


@pytest.fixture
def attack(record_property: Callable[[str, object], None]) -> Callable[[Iterable[Case]], None]:
    """`attack(cases)`: runs them, and fails with name, seed and text of each that ended badly."""

    def run(cases: Iterable[Case]) -> None:
        endings = run_cases(cases)
        record_property("attacks", counts(endings))
        bad = [ending for ending in endings if ending.outcome not in ("answered", "refused")]
        assert not bad, "\n".join(
            [
                f"{len(bad)} of {len(endings)} ended badly; ATTACK_ONLY='name#seed' repeats one alone",
                *map(str, bad),
            ]
        )

    return run


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ENDINGS] = {}
    config.pluginmanager.register(Tally(config.stash[ENDINGS]))


class Tally:
    """Adds up what the tests of all processes report, and shows it at the end."""

    def __init__(self, endings: dict[str, Counter[str]]) -> None:
        self.endings = endings

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "attacks":
                    assert isinstance(value, dict)
                    for sweep, outcomes in value.items():
                        self.endings.setdefault(sweep, Counter()).update(outcomes)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.endings:
            terminalreporter.write_line(markdown(self.endings))
            if LARGE and not ONLY:
                write_table(PAGE, self.endings)
