"""PyCOMPSs's API."""
