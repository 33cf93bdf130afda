"""The part of `pycompss.util` that programs use."""
