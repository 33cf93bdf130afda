"""`COMPSsException`."""

from isthmus.tasks.failures import COMPSsException

__all__ = ["COMPSsException"]
