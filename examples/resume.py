"""Two DataLoader workers, and a run that is interrupted in the middle of an epoch and goes on exactly there.

python examples/resume.py OUT CONFIG
python examples/resume.py demo microscopy-permissive  # of sa-med2d demo
"""

import sys

from torch.utils.data import DataLoader

from sa_med2d_20m import Output, load


def rows():
    return load(sys.argv[1], sys.argv[2], split="all", shuffle=0, view="semantic", decode=Output(size=64, kind="torch"))


seen = [key for batch in DataLoader(rows(), batch_size=4, num_workers=2) for key in batch["key"]]
print(f"two workers: {len(seen)} images, {len(set(seen))} of them different")

whole = [row["key"] for row in rows()]
first, stream = [], rows()
for row in stream:
    first.append(row["key"])
    if len(first) == len(whole) // 2:
        break
state = stream.state_dict()  # plain data: torch.save keeps it with the weights

resumed = rows()
resumed.load_state_dict(state)
rest = [row["key"] for row in resumed]
print("resumed exactly:", first + rest == whole)
