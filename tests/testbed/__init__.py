"""The test bed: real servers, each private, that the system tests run against.

One module a server: `slurm` (with `slurmdbd`), `gridengine`, `ssh`, `network` (with `delay`), `postgres`, `images`,
`engines`, `disk`; `users` has whom to log in as, and `fixtures` has all of them as pytest fixtures. Each server is a
context manager; it starts in its own folder on free ports, touches no service of the machine, and may run several
times side by side.

Nothing outlives the tests: every server runs under a keeper process (`keeper`), which kills all that the server
started and undoes what was made in the kernel (namespaces, mounts) as soon as the test process is gone, however
it went.

The servers need root on Debian and the packages that `scripts/install-system-packages` installs.
"""
