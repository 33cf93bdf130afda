"""PyCOMPSs's `storage`: what a program finds by that name where it brings none of its own."""
