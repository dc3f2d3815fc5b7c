"""Maximum likelihood: expectation maximisation from many starts, and the choice of the latent."""
