"""The proxy: answers the control plane's requests on a site's login node. Standard library, Python 3.6.

    stdin ──► server ──► submission, ending, polling ──► batch/<name> ──► sbatch, …  or  keeper
                    └──► files, transfer, prepare          (bytes and folders)

docs/site-protocol.md is the contract. It uses `isthmus.runner` (the job folder, the claim, the canonical stream) and
nothing else of the house.
"""
