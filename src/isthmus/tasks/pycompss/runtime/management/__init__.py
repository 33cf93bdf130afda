"""The part of `pycompss.runtime` that programs name."""
