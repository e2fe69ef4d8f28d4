"""SAM 2-like training: from the masks of objects in the first slice to their masks in the slices that follow.

python examples/clips.py OUT CONFIG [STEPS]
python examples/clips.py demo mr-permissive  # of sa-med2d demo
"""

import itertools
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

from sa_med2d_20m import Clip, Output, collate, load

output = Output(size=64, channels=1, kind="torch")  # values of the source; SAM 2: Output(1024, normalise="sam", ...)
rows = load(sys.argv[1], sys.argv[2], split="all", view=Clip(4), planes=["axial"], decode=output)
batches = DataLoader(rows, batch_size=2, collate_fn=collate)
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
torch.manual_seed(0)
step = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))
optimizer = torch.optim.AdamW(step.parameters(), lr=1e-2)
losses = []
for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(batches)), steps):
    image = batch["image"][:, :, 0]  # (B, Z, H, W)
    image = (image - image.mean()) / (image.std() + 1e-6)
    shown = batch["mask"][:, 0].flatten(1).any(1)  # of (N, Z, H, W), the objects of all clips
    target, image = batch["mask"][shown].float(), image[batch["owner"][shown]]  # a clip for each object
    if not len(target):
        continue
    memory, loss = target[:, 0], torch.tensor(0.0)
    for at in range(1, target.shape[1]):
        logits = step(torch.stack([image[:, at - 1], image[:, at], memory], dim=1))[:, 0]
        loss = loss + nn.functional.binary_cross_entropy_with_logits(logits, target[:, at]) / (target.shape[1] - 1)
        memory = logits.sigmoid()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss from {losses[0]:.3f} to {losses[-1]:.3f}")
