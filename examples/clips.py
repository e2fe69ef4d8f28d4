"""SAM 2-like training: from the first slice's mask of an object to its masks in the slices that follow.

python examples/clips.py OUT CONFIG [STEPS]
python examples/clips.py demo mr-permissive  # of sa-med2d demo
"""

import itertools
import sys

import torch
from torch import nn

from sa_med2d_20m import Clip, load

rows = load(sys.argv[1], sys.argv[2], split="all", view=Clip(4), planes=["axial"])
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
torch.manual_seed(0)
step = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))
optimizer = torch.optim.AdamW(step.parameters(), lr=1e-2)
losses = []
for row in itertools.islice(itertools.chain.from_iterable(itertools.repeat(rows)), steps):
    image = torch.from_numpy(row["image"])  # (Z, H, W)
    image = (image - image.mean()) / (image.std() + 1e-6)
    height = row["height"]
    label = row["mask"][:, :height].astype("int64")  # the first layer; ids belong to objects of the whole volume
    ids = [number for number in set(label[0].ravel().tolist()) if number]
    if not ids:
        continue
    target = torch.from_numpy(label == ids[0]).float()
    memory, loss = target[0], torch.tensor(0.0)
    for at in range(1, len(image)):
        logits = step(torch.stack([image[at - 1], image[at], memory])[None])[0, 0]
        loss = loss + nn.functional.binary_cross_entropy_with_logits(logits, target[at]) / (len(image) - 1)
        memory = logits.sigmoid()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss from {losses[0]:.3f} to {losses[-1]:.3f}")
