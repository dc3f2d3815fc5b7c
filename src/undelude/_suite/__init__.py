"""The benchmark suite: one agent on frozen tasks, its results in one file, and the page that compares results."""
