"""Distributed data sets: collections in partitions, each worked on by a task."""

from isthmus.tasks.pycompss.dds.dds import DDS

__all__ = ["DDS"]
