"""Questions of a graph as a mapping from names to parents: separation, paths, sets to adjust for, equivalence."""
