"""StreamFlow's files, read as they are: `streamflow.yml` v1.0."""
