"""Logs as arrays: from arrays, data frames, files, Minari and our own episodes."""
