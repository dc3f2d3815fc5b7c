"""What may be concluded from a fit: identification, bounds, tests of the declared assumptions."""
