"""`CausalModel`: a graph with mechanisms, and all that is asked of it."""
