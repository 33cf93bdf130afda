"""A random forest trained by tasks."""
