"""`python -m undelude._cli`."""

import sys

from undelude._cli.app import main

sys.exit(main())
