"""`@opencl`."""

from isthmus.tasks.kinds.decorators import opencl

OpenCL = opencl
__all__ = ["OpenCL", "opencl"]
