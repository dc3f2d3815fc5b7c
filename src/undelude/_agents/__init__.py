"""The agents: exact, Thompson sampling, planning, tempered, fixed, from other libraries, and networks."""
