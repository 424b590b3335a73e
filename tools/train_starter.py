"""Trains the starter model: a small convolutional network for the ten CIFAR-10 categories.

    python tools/train_starter.py DATA OUT

DATA holds train/<category>/*.jpg and test/<category>/*.jpg, 32 x 32 pixels each.  OUT becomes a
Hugging Face folder (config.json, model.safetensors in float16, preprocessor_config.json), with the
arguments and the measured accuracy in training.json.

The network takes 32 x 32 pixels without enlarging them: a network trained on enlarged thumbnails is
worse on real photographs, which are sharper.  Architecture: PP-HGNetV2 (PaddlePaddle, in
transformers) without some strides in its stem.  Schedule: SGD with Nesterov momentum, one-cycle
learning rate (Smith & Topin 2018, arXiv:1708.07120).  The saved weights are an exponential moving
average over the steps.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from transformers import HGNetV2Config, HGNetV2ForImageClassification

SIZE_PX = 32
PATHS = frozenset({"data", "out", "init"})
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1)


def load(folder: Path, categories: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns pixels uint8 (N, 3, 32, 32) and category indices int64 (N,)."""
    files = [(p, i) for i, c in enumerate(categories) for p in sorted((folder / c).iterdir())]
    pixels = np.stack([np.asarray(Image.open(p).convert("RGB")) for p, _ in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(
        [i for _, i in files]
    )


def network(categories: list[str]) -> HGNetV2ForImageClassification:
    """Returns the untrained network: 16 x 16, 8 x 8 and 4 x 4 stages, 2.6 M parameters."""
    return HGNetV2ForImageClassification(
        HGNetV2Config(
            depths=[1, 1, 1],
            hidden_sizes=[128, 256, 384],
            embedding_size=64,
            stem_channels=[3, 24, 64],
            stem_strides=[1, 1, 1, 2, 1],
            stage_in_channels=[64, 128, 256],
            stage_mid_channels=[64, 128, 192],
            stage_out_channels=[128, 256, 384],
            stage_num_blocks=[1, 1, 1],
            stage_downsample=[False, True, True],
            stage_downsample_strides=[2, 2, 2],
            stage_light_block=[False, False, False],
            stage_kernel_size=[3, 3, 3],
            stage_numb_of_layers=[4, 4, 4],
            num_labels=len(categories),
            id2label=dict(enumerate(categories)),
            label2id={c: i for i, c in enumerate(categories)},
        )
    )


def shift(x: torch.Tensor, max_px: int) -> torch.Tensor:
    """Moves float32 (N, 3, S, S) by whole pixels, so that pictures stay sharp."""
    n, _, size, _ = x.shape
    padded = F.pad(x, [max_px] * 4, mode="reflect")
    rows = torch.randint(0, 2 * max_px + 1, (n, 1)) + torch.arange(size)
    columns = torch.randint(0, 2 * max_px + 1, (n, 1)) + torch.arange(size)
    pick = torch.arange(n)[:, None, None], slice(None), rows[:, :, None], columns[:, None, :]
    return padded[pick].permute(0, 3, 1, 2)


def zoom(x: torch.Tensor) -> torch.Tensor:
    """Zooms float32 (N, 3, S, S) by 0.67 to 1.49 and sharpens."""
    n = len(x)
    span = torch.exp((torch.rand(n) - 0.5) * 0.8)
    ratio = torch.exp((torch.rand(n) - 0.5) * 0.3)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = span * ratio, span / ratio
    theta[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * ((1 - span).abs()[:, None] + 0.1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    amount = torch.rand(n, 1, 1, 1) * 1.5
    return x + amount * (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def augment(x: torch.Tensor, strength: float) -> torch.Tensor:
    """Returns float32 (N, 3, 32, 32) in [0, 1] from uint8; `strength` in [0, 1]."""
    x = x.float() / 255
    n, _, size, _ = x.shape
    flipped = torch.rand(n) < 0.5
    x[flipped] = x[flipped].flip(3)
    zoomed = torch.rand(n) < 0.5 * strength
    x[~zoomed] = shift(x[~zoomed], 4)
    if zoomed.any():
        x[zoomed] = zoom(x[zoomed])
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.5 * strength)
    gain = 1 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.4 * strength
    x = ((x - 0.5) * gain + 0.5 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.2 * strength).clamp(0, 1)
    holes = (torch.rand(n) < 0.5 * strength).nonzero().flatten()
    for i in holes.tolist():
        top, left = torch.randint(0, size - 8, (2,)).tolist()
        x[i, :, top : top + 8, left : left + 8] = 0.5
    return x


def normalized(x: torch.Tensor) -> torch.Tensor:
    """Returns the network's input for float32 (N, 3, 32, 32) in [0, 1]."""
    return ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Returns the share of pictures whose most probable category is correct."""
    model.eval()
    with torch.inference_mode():
        right = [
            (model(normalized(x[i : i + 500].float() / 255)).logits.argmax(-1) == y[i : i + 500])
            .sum()
            .item()
            for i in range(0, len(x), 500)
        ]
    return sum(right) / len(x)


def save(model: HGNetV2ForImageClassification, out: Path, training: dict[str, object]) -> None:
    """Writes the Hugging Face folder."""
    half = network(list(model.config.id2label.values()))
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(out)
    card = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIZE_PX},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [round(v, 4) for v in MEAN.flatten().tolist()],
        "image_std": [round(v, 4) for v in STD.flatten().tolist()],
    }
    (out / "preprocessor_config.json").write_text(json.dumps(card, indent=1) + "\n")
    (out / "training.json").write_text(json.dumps(training, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument(
        "--calm-epochs", type=int, default=6, help="final epochs with a third of the augmentation"
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="strength of the augmentation, 0 to 1"
    )
    parser.add_argument(
        "--init", type=Path, help="output folder of an earlier run, to continue from"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def optimizer_of(model: torch.nn.Module, lr: float) -> torch.optim.SGD:
    """Returns the optimizer, without weight decay for biases and batch norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0.0}],
        lr=lr,
        momentum=0.9,
        nesterov=True,
    )


def record(args: argparse.Namespace, **figures: float) -> dict[str, object]:
    """Returns the content of training.json."""
    shown = {name: value for name, value in vars(args).items() if name not in PATHS}
    return {"dataset": "CIFAR-10", **figures, "arguments": shown}


def main() -> None:
    """Trains, measures and saves after each epoch."""
    args = arguments()
    torch.manual_seed(args.seed)
    categories = sorted(folder.name for folder in (args.data / "train").iterdir())
    x, y = load(args.data / "train", categories)
    test = load(args.data / "test", categories)
    model = network(categories)
    if args.init:
        model.load_state_dict(HGNetV2ForImageClassification.from_pretrained(args.init).state_dict())
    model = model.to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = optimizer_of(model, args.lr)
    total = args.epochs * (len(x) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=total, pct_start=0.2
    )
    start = time.monotonic()
    for epoch in range(1, args.epochs + 1):
        model.train()
        strength = args.strength if epoch <= args.epochs - args.calm_epochs else args.strength / 3
        for picked in torch.randperm(len(x)).split(args.batch)[: total // args.epochs]:
            images = normalized(augment(x[picked], strength))
            loss = F.cross_entropy(model(images).logits, y[picked], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
        # Averaged weights need their own batch statistics (Izmailov et al. 2018,
        # arXiv:1803.05407).
        few = torch.randperm(len(x))[:10_000].split(args.batch)
        update_bn((normalized(augment(x[picked], 0.33)) for picked in few), average.module)
        top1 = round(accuracy(average.module, *test), 4)
        seconds = round(time.monotonic() - start)
        print(f"epoch {epoch}/{args.epochs} loss {loss:.3f} test {top1} {seconds} s", flush=True)
        done = record(args, test_images=len(test[0]), top1=top1, seconds=seconds, epochs_done=epoch)
        save(average.module, args.out, done)


if __name__ == "__main__":
    main()
