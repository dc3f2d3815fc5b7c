"""Agents from a fit: exact, and taught inside the induced process."""
