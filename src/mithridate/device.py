"""Which device a job runs on, and how a process prepares itself for reproducible work on it."""

import ctypes
import os
from importlib.metadata import version

from mithridate.errors import InputError
from mithridate.lease import VARIABLE, hold_card


def kind(choice: str) -> str:
    """cpu or cuda, from the option `device`: auto | cpu | cuda; found without importing torch.

    auto takes CUDA where there is a card's driver, PyTorch was built for it and CUDA_VISIBLE_DEVICES does not hide it.
    """
    if choice != "auto":
        return choice
    hidden = os.environ.get(VARIABLE) in ("", "-1")
    return "cuda" if os.path.exists("/dev/nvidiactl") and not hidden and "+cpu" not in version("torch") else "cpu"


def prepare(kind: str = "cpu") -> None:
    """One thread, deterministic kernels, no denormals: what a job's bits must not depend on, made constant.

    PyTorch's results on a CPU change with the number of threads, so jobs run side by side as processes instead. On CUDA
    the process gets a card of its own (lease.hold_card), so that this comes before any other use of CUDA.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if kind == "cuda":
        hold_card()
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is cuda, but PyTorch sees no card on this machine: set device: cpu, or use one that has."
        )
    _keep_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    # The same switch as use_deterministic_algorithms, which also imports PyTorch's compiler: 1.3 s in every job.
    torch.set_deterministic_debug_mode("error")
    # Filling fresh memory is for debugging, and small networks feel it.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    torch.backends.cudnn.benchmark = False
    # fp32 means fp32: TF32, which PyTorch lets convolutions use where the card has it, keeps 10 bits.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _keep_memory() -> None:
    """Let glibc keep freed memory instead of giving it back after every operation, which costs page faults.

    Other C libraries are left as they are.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        pass


def describe(device: str) -> dict[str, str | int]:
    """The processor or card (name and UUID) that did the work, for provenance; with the peak of a card's memory in
    bytes."""
    import torch

    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        return {"device": torch.cuda.get_device_name(), "card": os.environ.get(VARIABLE, ""), "peak_gpu_bytes": peak}
    return {"device": f"cpu {torch.backends.cpu.get_cpu_capability()}"}
