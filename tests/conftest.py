"""What every test may ask for: the command line in this process, the demo, an object store, and the corpus if present."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest

from builder.command_line import main
from tests.support.command import Command, Ran, run_quietly
from tests.support.places import CORPUS

if TYPE_CHECKING:
    from tests.support.object_store import Store


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """With ``-n`` each worker gets modules in a row, makes what they share once, and takes tests of others at the end.

    No option in ``pyproject.toml``: where one is set, benchmarks think that several workers run.

    Where Python is told to write no bytecode, as in images of containers, each of the hundreds of processes that tests
    start would compile all of the project again.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.fixture
def sa_med2d(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``sa-med2d`` with arguments, in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse, on wrong usage
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """The demo, by its default number of workers, and how it ended; nobody writes to it.

    Of several workers of pytest the first that asks builds it, and the others take the same.
    """
    pytest.importorskip("nilearn", reason="the extra 'demo' is not installed")
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    out, kept = folder / "shared/demo", folder / "shared/demo.json"
    out.parent.mkdir(exist_ok=True)
    with filelock.FileLock(folder / "shared/lock"):
        if not kept.exists():
            kept.write_text(json.dumps(dataclasses.asdict(run_quietly("demo", "--out", out))))
    return out, Ran(**json.loads(kept.read_text()))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An object store to build into."""
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    from tests.support.object_store import Store  # noqa: PLC0415

    made = Store()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real public images; tests that need it are skipped where it is not."""
    if not CORPUS.is_dir():
        pytest.skip("the corpus of real images is not here")
    return CORPUS
