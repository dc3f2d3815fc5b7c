"""Everything on disk: run directories, agents, checkpoints and exports."""
