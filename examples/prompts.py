"""SAM-style training: a small vision transformer segments what a box points at.

python examples/prompts.py OUT CONFIG [STEPS]
python examples/prompts.py demo all-permissive  # of sa-med2d demo
"""

import itertools
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

from sa_med2d_20m import Output, Prompts, load

SIZE, PATCH, WIDTH = 64, 8, 64


class SmallSam(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.places = nn.Parameter(torch.zeros((SIZE // PATCH) ** 2, WIDTH))
        self.box = nn.Linear(4, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True, dropout=0)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.pixels = nn.ConvTranspose2d(WIDTH, 1, PATCH, PATCH)

    def forward(self, image, box):
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.places
        tokens = self.encoder(torch.cat([tokens, self.box(box / SIZE)[:, None]], 1))[:, :-1]
        side = SIZE // PATCH
        return self.pixels(tokens.transpose(1, 2).reshape(-1, WIDTH, side, side))[:, 0]


output = Output(size=SIZE, normalise="sam", kind="torch")
rows = load(
    sys.argv[1],
    sys.argv[2],
    split="all",
    view="mask",
    shuffle=0,
    decode=output,
    prompts=Prompts(jitter=0.1, positive=1),
)
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
torch.manual_seed(0)
net = SmallSam()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
epochs = itertools.chain.from_iterable(itertools.repeat(DataLoader(rows, batch_size=8)))
losses = []
for batch in itertools.islice(epochs, steps):
    loss = nn.functional.binary_cross_entropy_with_logits(net(batch["image"], batch["box"]), batch["mask"].float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss from {losses[0]:.3f} to {losses[-1]:.3f}")
