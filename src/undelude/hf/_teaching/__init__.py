"""Counterfactual teaching of a language model, on `transformers.Trainer`."""
