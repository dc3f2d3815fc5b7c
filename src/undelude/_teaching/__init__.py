"""Teaching: settings, losses, compiled updates, and the loop."""
