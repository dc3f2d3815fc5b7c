"""Networks: learned agents over the symbols of a process, each architecture in a module of its own."""
