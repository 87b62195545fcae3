"""How much of a GPU's arithmetic a training uses: `perf/mfu`, where the GPU's peak is known.

    utilisation = operations an image * images a second / (GPUs * peak of one)

An image's operations are those of the weight layers, a multiplication and an addition being two:
the forward pass, as much for the gradient of the weights, and as much for that of the inputs,
except where these are the images. Neither norms nor what is done to images are counted.
"""

from functools import cache
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from alexnet.settings import NetworkSettings, Precision
from alexnet.train.job import TrainJob
from alexnet.train.loop import StepReport
from alexnet.train.plan import LoopPlan
from alexnet.train.world import World

_TERA: Final = 1e12
_PEAKS: Final[tuple[tuple[str, float | None, float, float], ...]] = (
    ("H200 NVL", 835.5, 417.75, 60.0),
    ("H200", 989.4, 494.7, 66.9),
    ("H100 PCIe", 756.0, 378.0, 51.2),
    ("H100 NVL", 835.5, 417.75, 60.0),
    ("H100", 989.4, 494.7, 66.9),
    ("A100", 312.0, 156.0, 19.5),
    ("L40S", 362.05, 183.0, 91.6),
    ("L4", 121.0, 60.0, 30.3),
    ("A10", 125.0, 62.5, 31.2),
    ("V100", None, 15.7, 15.7),
    ("T4", None, 8.1, 8.1),
)
"""Words of the device's name; dense TFLOP/s in bf16, in tf32 and in fp32. Source: NVIDIA's data
sheets of these products, whose figures with sparsity are halved; the V100's is that of SXM2. Those
without bf16 emulate it, and those without TF32 multiply in float32."""


def peak_flop_per_s(device_name: str, precision: Precision) -> float | None:
    """Return the most dense operations a second of a GPU, or None where that is not known.

    Args:
        device_name: as `torch.cuda.get_device_name` has it.
        precision: of `train.precision`.
    """
    words = f" {device_name.replace('-', ' ')} "
    if " MIG " in words:  # a part of one
        return None
    for name, bf16, tf32, fp32 in _PEAKS:
        if f" {name} " in words:
            peak = {"bf16": bf16, "tf32": tf32, "fp32": fp32}[precision]
            return None if peak is None else peak * _TERA
    return None


@cache
def flop_per_image(
    network: NetworkSettings, *, num_classes: int, built_px: int, input_px: int
) -> int:
    """Count the operations of one image's forward and backward pass; nothing is computed.

    Args:
        network: which.
        num_classes: its logits.
        built_px: side of the images that it is built for.
        input_px: side of the image.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        built = network.build(num_classes, built_px).eval()
        built(torch.empty(1, 3, input_px, input_px))
    first = next(iter(dict(built.named_parameters()))).rpartition(".")[0]
    counts = counter.get_flop_counts()
    of_first = sum(counts[f"{type(built).__name__}.{first}"].values())
    return 3 * counter.get_total_flops() - of_first


def gpu_name(device: torch.device) -> str | None:
    """Return the name of a GPU, or None of a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def utilisation(
    job: TrainJob, plan: LoopPlan, report: StepReport, world: World, gpu: str | None
) -> float | None:
    """Return the used part of the peak since the last report; None on CPUs and unknown GPUs.

    Time in which there was no batch to work on counts, so a slow loader shows here too.
    """
    peak = None if gpu is None else peak_flop_per_s(gpu, job.train.precision)
    if peak is None:
        return None
    flop = flop_per_image(
        job.network,
        num_classes=job.num_classes,
        built_px=plan.augment.crop_px,
        input_px=plan.input_px((report.step - 1) // plan.steps_per_epoch),
    )
    return flop * report.images / report.elapsed_s / (world.size * peak)
