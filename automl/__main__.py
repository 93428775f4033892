"""``python -m automl`` is the command ``automl``."""

import sys

from automl.cli import main

sys.exit(main())
