"""Variables: values, mechanisms, noise; what is done to them, seen of them, and answered about them."""
