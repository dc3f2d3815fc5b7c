"""Fits and diagnoses in files: JSON for what was declared and found, safetensors for the numbers of a model."""
