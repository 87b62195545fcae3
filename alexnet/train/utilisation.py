"""How much of a GPU's arithmetic a training uses: `perf/mfu`, where the GPU's peak is known.

    utilisation = operations an image * images a second / (GPUs * peak of one)

An image's operations are those of the weight layers, a multiplication and an addition being two:
the forward pass, as much for the gradient of the weights, and as much for that of the inputs,
except where these are the images. Neither norms nor what is done to images are counted.
"""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from alexnet.settings import NetworkSettings
from alexnet.train.gpu_peaks import peak_flop_per_s
from alexnet.train.job import TrainJob
from alexnet.train.loop import StepReport
from alexnet.train.plan import LoopPlan
from alexnet.train.world import World


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
