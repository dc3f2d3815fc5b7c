"""Sums, products and fractions of probabilities: simplified, printed, evaluated, and the steps that led to them."""
