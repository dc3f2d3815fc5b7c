"""Effects and counterfactuals as expressions in what was observed or tried, or the witness that there is none."""
