"""The menu in words."""
