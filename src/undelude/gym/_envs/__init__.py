"""Processes as Gymnasium's environments: spaces, compiled rounds, ids."""
