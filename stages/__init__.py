"""Training, generation and evaluation: one program per file, from the shards that avdata packs."""

import sys

if sys.argv[:1] == ["-m"]:  # a program of this package is being looked for, and may lack an extra
    from stages.extras import explain_missing

    sys.excepthook = explain_missing
