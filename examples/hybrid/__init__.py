"""One program over MPI on a cluster, a program, a service and tasks here."""
