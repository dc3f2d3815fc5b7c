"""The certificate of an agent, its repetition over seeds, an example episode, and checks of a task."""
