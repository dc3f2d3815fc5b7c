"""Models from data, and from and to other packages."""
