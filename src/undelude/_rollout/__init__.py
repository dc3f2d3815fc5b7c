"""Episodes of any agent in any world, by one compiled loop and one Python loop."""
