"""What ``python3 isthmus.pyz`` runs: the archive's own ``__main__`` is a copy of this file.

An archive's sources are compiled anew at each start. So the first proxy leaves them compiled beside the archive, in
a folder for this version of Python (see :mod:`isthmus.proxy.compiled`), and later starts on any node take that.
"""

import os
import sys

_archive = sys.path[0]
if _archive.endswith(".pyz"):
    _compiled = "%s.%s" % (_archive[:-4], sys.implementation.cache_tag)
    if os.path.isdir(_compiled):
        sys.path.insert(0, _compiled)

from isthmus.proxy.main import main  # noqa: E402  (the path had to be set first)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
