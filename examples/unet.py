"""Train a U-Net of MONAI on class maps.

python examples/unet.py OUT CONFIG CLASS [STEPS]
python examples/unet.py demo mr-permissive grey_matter  # of sa-med2d demo
"""

import itertools
import sys

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch.utils.data import DataLoader

from sa_med2d_20m import Output, Semantic, load

out, config, label = sys.argv[1:4]
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 1000
rows = load(
    out,
    config,
    split="all",
    view=Semantic(classes=[label]),
    labels=[label],
    shuffle=0,
    decode=Output(size=64, normalise="imagenet", kind="torch"),
)
torch.manual_seed(0)
net = UNet(spatial_dims=2, in_channels=3, out_channels=2, channels=(8, 16, 32), strides=(2, 2))
loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
epochs = itertools.chain.from_iterable(itertools.repeat(DataLoader(rows, batch_size=8)))
losses = []
for batch in itertools.islice(epochs, steps):
    loss = loss_of(net(batch["image"]), batch["mask"][:, None])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss from {losses[0]:.3f} to {losses[-1]:.3f}")
