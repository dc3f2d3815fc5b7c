"""What the page can show, for the command line too, which reads its options before it imports JAX."""

# Most rounds of an episode: of 20,000 a request has about 3 MB, the cells of the page some 100,000.
MAX_ROUNDS = 20_000
