"""Sums of products of tables, by tensor contraction."""
