"""Measures whether a language model, local or served, takes its own words for evidence."""
