"""Runs transformers' own common test suites against this package.

    python tests/conformance/run.py --transformers 5.17.0 5.23.0

For each version: its source distribution, for the suites, and the version itself are fetched with pip
into a cache and put before the installed packages; then pytest runs the files beside this one. At the
end comes a table, and for each version the tests that were skipped, grouped by reason.

The exit code is 0 only if every version passed at least as many tests as expected and failed none.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from environment import Environment, prepare

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]
# Fewer passed tests than this mean that something was not collected or is newly skipped.
LEAST_PASSED = 370
SEVERITY = ("passed", "skipped", "failed")


@dataclass
class Outcome:
    """What one version's run gave."""

    version: str
    exit_code: int
    counts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def is_good(self, least_passed: int) -> bool:
        return self.exit_code == 0 and not self.counts["failed"] and self.counts["passed"] >= least_passed


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run transformers' own common test suites against this package."
    )
    parser.add_argument(
        "--transformers",
        nargs="+",
        required=True,
        metavar="VERSION",
        help="released versions, e.g. 5.17.0",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=REPOSITORY / ".conformance",
        help="folder that keeps what was downloaded (default: .conformance in the repository)",
    )
    parser.add_argument(
        "--least-passed",
        type=int,
        default=LEAST_PASSED,
        help="fail when fewer tests than this passed (default: %(default)s)",
    )
    parser.add_argument(
        "--pytest",
        nargs=argparse.REMAINDER,
        default=[],
        help="everything after this goes to pytest",
    )
    return parser.parse_args(arguments)


def run_suites(environment: Environment, results: Path, extra: list[str]) -> Outcome:
    """Runs pytest in a process of its own with that version of transformers."""
    results.unlink(missing_ok=True)
    variables = {
        **os.environ,
        "CONFORMANCE_SUITES": str(environment.suites),
        "CONFORMANCE_RESULTS": str(results),
        "PYTHONPATH": os.pathsep.join([str(environment.site), str(REPOSITORY)]),
        "HF_HUB_OFFLINE": "1",
        # The models are so small that threads would only wait for one another.
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(FOLDER / "pytest.ini"),
        str(FOLDER),
        *extra,
    ]
    finished = subprocess.run(command, env=variables, cwd=REPOSITORY, check=False)
    return read_outcome(environment.version, finished.returncode, results)


def read_outcome(version: str, exit_code: int, results: Path) -> Outcome:
    """Reads what the plugin in conftest.py wrote, a JSON object per test and per odd part of one."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    worst: dict[str, str] = {}
    outcome = Outcome(version, exit_code)
    for entry in map(json.loads, lines):
        # A test of whose parts one was skipped counts as skipped, so that none goes unnoticed.
        worst[entry["test"]] = max(worst.get(entry["test"], "passed"), entry["outcome"], key=SEVERITY.index)
        if entry["outcome"] == "skipped":
            outcome.skipped[entry["reason"].removeprefix("Skipped: ")].add(entry["test"])
    outcome.counts = Counter(worst.values())
    return outcome


def print_report(outcomes: list[Outcome], least_passed: int) -> None:
    for outcome in outcomes:
        print(f"\nSkipped with transformers {outcome.version}, by reason:")
        for reason, tests in sorted(outcome.skipped.items(), key=lambda entry: (-len(entry[1]), entry[0])):
            print(f"  {reason} ({len(tests)})")
            for name, count in sorted(Counter(map(_test_name, tests)).items()):
                print(f"      {name}" + (f" x{count}" if count > 1 else ""))
    print("\n| transformers | passed | failed | skipped | verdict |\n|---|---|---|---|---|")
    for outcome in outcomes:
        passed, failed, skipped = (outcome.counts[key] for key in ("passed", "failed", "skipped"))
        verdict = "good" if outcome.is_good(least_passed) else "NOT GOOD"
        print(f"| {outcome.version} | {passed} | {failed} | {skipped} | {verdict} |")


def _test_name(node: str) -> str:
    return node.rpartition("::")[2]


def main() -> int:
    arguments = parse_arguments()
    outcomes = []
    for version in arguments.transformers:
        print(f"transformers {version}", flush=True)
        environment = prepare(version, arguments.cache.resolve())
        results = environment.site.parent / "results.jsonl"
        outcomes.append(run_suites(environment, results, arguments.pytest))
    print_report(outcomes, arguments.least_passed)
    return 0 if all(outcome.is_good(arguments.least_passed) for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
