"""How long after it is asked for the first sample of a Hub is there: the loader beside stock `datasets`.

Real clients over a real socket, each in a process of its own with an empty cache and its libraries imported; with the
test Hub as it is, and with 50 ms before each answer, as a network has: ``pytest tests/benchmarks/test_first_sample.py -m
slow -rP`` prints the table.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from tests.hub.server import HubServer
from tests.support.loader_benchmark import build, write
from tests.support.warm_process import COMMANDS, WarmProcess

pytestmark = pytest.mark.slow

ROUNDS = 5
CASES, SLICES = 16, 64
REPO = "ann/scans"
TOKEN = "hf_ann_secret"  # noqa: S105 - of the tests' own Hub
RARE = "gallbladder"
"""A class that only the last case shows, in one of four shards."""
DELAYS = (0.0, 0.05)
READ_BY = ("cv2", "sa_med2d_20m", *(["torch.utils.data"] if importlib.util.find_spec("torch") else []))
"""What reads samples beside `datasets`, which takes torch in where it is installed: seconds that are no reader's."""

CLOCKED = """
import json, time
import numpy as np
started = time.perf_counter()
{text}
print(json.dumps([time.perf_counter() - started, [row.shape for row in rows], labels]))
"""
LOADER = """
from sa_med2d_20m import load
row = next(iter(load("{repo}", "mr", labels={labels})))
rows, labels = [row["image"], row["mask"]], [mask["label"] for mask in row["masks"]]
"""
DATASETS = """
from datasets import load_dataset
wanted = set({labels} or ())
stream = load_dataset("{repo}", "mr", split="train", streaming=True)
if wanted:
    stream = stream.filter(lambda row: any(mask["label"] in wanted for mask in row["json"]["masks"]))
row = next(iter(stream))
rows, labels = [np.asarray(row["png"]), np.asarray(row["mask.png"])], [mask["label"] for mask in row["json"]["masks"]]
"""
READERS = {"this loader": LOADER, "stock datasets": DATASETS}
UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().create_repo("{repo}", repo_type="dataset")
HfApi().upload_folder(repo_id="{repo}", repo_type="dataset", folder_path=sys.argv[1], ignore_patterns="build/*")
print()
"""


@dataclass
class Client:
    """Runs scripts of a user of the Hub."""

    hub: HubServer
    warm: WarmProcess
    home: Path

    def run(self, text: str, *arguments: str) -> str:
        """What a script prints, with nothing in its cache."""
        shutil.rmtree(self.home, ignore_errors=True)
        environment = self.hub.environment(home=self.home, token=TOKEN)
        process = self.warm.start(["-c", text, *arguments], environment, Path.cwd())
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a Hub that has 1,024 slices of 256 x 256 in four shards."""
    folder = tmp_path_factory.mktemp("first")
    rng = np.random.default_rng(0)
    for case in range(CASES):
        write(folder / f"Noise/images/{case:02d}.nii.gz", rng.integers(0, 1000, (256, 256, SLICES), np.int16))
        label = np.zeros((256, 256, SLICES), np.uint8)
        label[20:60, 20:60] = 1
        label[100:140, 20:60] = 2 if case == CASES - 1 else 0
        write(folder / f"Noise/labels/{case:02d}.nii.gz", label)
    out = build(folder, "Noise", f'1 = "liver"\n2 = "{RARE}"')
    assert len(list(out.glob("data/**/*.tar"))) == 4
    with HubServer(folder / "hub") as hub:
        hub.add_user("ann", TOKEN)
        home = folder / "home"
        with WarmProcess(hub.environment(home=home, token=TOKEN), [*COMMANDS, *READ_BY]) as warm:
            client = Client(hub, warm, home)
            client.run(UPLOAD.format(repo=REPO), str(out))
            yield client


def test_first_sample(client: Client) -> None:
    found: dict[tuple[str, str | None, float], list[tuple[float, int, float]]] = {}
    for _ in range(ROUNDS):
        for delay in DELAYS:
            client.hub.faults.clear()
            client.hub.faults.add(".", times=1_000_000, delay=delay)
            for wanted in (None, RARE):
                for reader in READERS:
                    found.setdefault((reader, wanted, delay), []).append(first_sample(client, reader, wanted))
    print(*lines(found), sep="\n")  # noqa: T201 - shown by pytest -rP


def first_sample(client: Client, reader: str, wanted: str | None) -> tuple[float, int, float]:
    """Seconds, requests, and megabytes that were sent."""
    before = len(client.hub.requests)
    script = READERS[reader].format(repo=REPO, labels=None if wanted is None else [wanted])
    seconds, shapes, labels = json.loads(client.run(CLOCKED.format(text=script)).splitlines()[-1])
    assert shapes == [[256, 256], [256, 256]]
    assert wanted is None or wanted in labels
    sent = client.hub.requests[before:]
    return seconds, len(sent), sum(request.sent for request in sent) / 1e6


def lines(found: dict[tuple[str, str | None, float], list[Any]]) -> Iterator[str]:
    """A table in Markdown, medians."""
    yield "| first sample of | by | ms | ms, with 50 ms before each answer | requests | MB |"
    yield "|---|---|--:|--:|--:|--:|"
    for wanted in (None, RARE):
        for reader in READERS:
            plain, delayed = (found[reader, wanted, delay] for delay in DELAYS)
            cells = [f"{median(one[0] for one in runs) * 1000:,.0f}" for runs in (plain, delayed)]
            cells += [f"{median(one[1] for one in plain):.0f}", f"{median(one[2] for one in plain):.1f}"]
            yield f"| {f'a class that one of {CASES} cases shows' if wanted else 'all'} | {reader} | {' | '.join(cells)} |"
