"""`python -m undelude.cli`."""

import sys

from undelude.cli.app import main

sys.exit(main())
