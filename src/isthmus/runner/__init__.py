"""The runner: wraps a job's command on the compute node. Standard library, Python 3.6, no imports from the rest.

    run, keeper ──► attempt ──► spawn ──► the command, in its container, in its own session
                       │  watches: exit, signals, kill file, time, memory
                       └──► reports ──► push (where the API can be reached)

docs/site-protocol.md is the contract; `folder` names the files that hold it.
"""
