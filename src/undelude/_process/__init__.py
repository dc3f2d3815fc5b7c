"""Interaction processes: theta, task and expert; episodes; exact inference; the causal model of a process."""
