"""PyCOMPSs's streams."""
