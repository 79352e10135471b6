"""For pytest (-p gpu_failures): writes failures into the file $FAILURES as they come, not when all tests have run."""

import os


def pytest_runtest_logreport(report):
    """Called for each phase of a test; under xdist also in its workers, which leave it to the process that gathers."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(os.environ["FAILURES"], "a") as file:
            file.write(f"== {report.nodeid} ({report.when}, {report.duration:.1f} s)\n{report.longreprtext[-2000:]}\n")
