"""The program ``run FOLDER``: one attempt, started by a batch system on the first of its nodes."""

import os
import sys

from isthmus.runner import attempt, process
from isthmus.runner import folder as files
from isthmus.runner.guardian import Guardian
from isthmus.runner.signals import Signals


def main(arguments: list) -> int:
    """Run the attempt in the folder that is the first argument; the command's exit code, or 128 + its signal."""
    folder = files.Folder(arguments[0])
    if not os.path.isdir(folder.path):
        sys.stderr.write("isthmus: there is no job folder %s on this node: is it on a shared disk?\n" % folder.path)
        return 66  # EX_NOINPUT
    signals = Signals()
    guardian = Guardian(folder)
    process.adopt_orphans()
    base = dict(os.environ)
    code = attempt.Attempt(folder, attempt.native_id(base, folder.key), signals, base).run()
    guardian.dismiss()
    if code == attempt.REFUSED:
        sys.stderr.write("isthmus: attempt %s was claimed before, or fenced: it is not run again.\n" % folder.key)
    return code
