"""The agents: exact, Thompson sampling, and networks with their heads."""
